"""What went wrong between here and a server, in a few words; quick to import, for a run with nothing to do."""

import re

WORDS = {
    "Connection refused": "connection refused: is it running?",
    "Name or service not known": "its host name is not known",
    "Temporary failure in name resolution": "its host name is not known",
    "timed out": "no answer in time",
    "CERTIFICATE_VERIFY_FAILED": "its TLS certificate is not trusted",
    "401": "401: user name or token is wrong",
    "403": "403: access denied",
    "404": "404: no such address",
}


def reason(error: Exception) -> str:
    """The cause that `error` of requests or MLflow's client holds, without the layers around it."""
    text = " ".join(str(error).split())
    for sign, words in WORDS.items():
        if re.search(rf"(?<![\w.]){sign}(?![\w])", text):
            return words
    return text[:300]
