"""Says in a few words why a server could not be used. Quick to import, for a run with nothing to do."""

import re

BY_STATUS = {
    401: "401: it does not accept this user name and token",
    403: "403: this user may not do that there",
    404: "404: there is no such address, or this user may not see it",
    413: "413: it takes no call or file as large as this, or a proxy before it does not",
    429: "429: too many requests, try again later",
    507: "507: it has no room left",
}
BY_SIGN = {
    "Connection refused": "connection refused: is it running?",
    "Name or service not known": "its host name is not known",
    "No address associated with hostname": "its host name is not known",
    "Temporary failure in name resolution": "its host name cannot be looked up",
    "timed out": "no answer in time",
    "Read timeout": "no answer in time",
    "Connect timeout": "no answer in time",
    "CERTIFICATE_VERIFY_FAILED": "its TLS certificate is not trusted: SSL_CERT_FILE names the CA when images are built",
    "[SSL:": "it does not speak TLS as expected: does its address begin with http: instead of https:?",
    "Expecting value": "it answers with a page and not with data: does the address end in .mlflow?",
    "<html": "it answers with a page and not with data: does the address end in .mlflow?",
    "RemoteDisconnected": "it broke the connection off",
    "IncompleteRead": "it broke the connection off",
    "peer closed connection": "it broke the connection off",
    "Server disconnected": "it broke the connection off",
    "Connection was closed": "it broke the connection off",
    "Connection reset": "it broke the connection off",
}
_STATUS = re.compile(
    r"error code (\d{3})|too many (\d{3}) error responses"  # MLflow's client
    r"|\b(\d{3}) (?:Client|Server) Error|(?:Client|Server) error '(\d{3})"  # requests, httpx
)


def reason(error: Exception) -> str:
    """Return the cause of an error of requests, httpx or MLflow's client, without the layers around it."""
    text = " ".join(str(error).split())
    answer = getattr(getattr(error, "response", None), "text", "")  # MLflow's client puts it into the text
    if "Invalid Host header" in text + answer:
        return "403: it does not serve under this host name: name it in its --allowed-hosts"
    if match := _STATUS.search(text):
        status = int(next(filter(None, match.groups())))
        if status >= 500 and status not in BY_STATUS:
            return f"{status}: the server failed, try again later"
        return BY_STATUS.get(status, f"status {status}")
    for sign, words in BY_SIGN.items():
        if sign.lower() in text.lower():
            return words
    return text[:300]
