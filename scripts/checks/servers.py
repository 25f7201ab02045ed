"""What all checks of servers share: how a failure is said, and what to do about it."""

import re

from scripts.checks.check import Check
from scripts.faults import reason

TIMEOUT = 5  # seconds for each call, so that all end within ten
ADVICE = (
    (r"40[13](?!.*--allowed-hosts)", "expected a user and a token that it lets in: correct them in .env"),
    (r"404", "expected it there, and for this user: correct {setting} in .env, make it, or ask its owner"),
    (r"429|5\d\d|no answer|it broke", "expected an answer: try again later, or ask who runs it"),
    (r"its TLS certificate", "expected one of a CA that is known here: name that CA's file in SSL_CERT_FILE"),
    (r"", "expected the server at that address: correct {setting} in .env"),
)
"""What to do, by how the words of `faults.reason` begin."""


def wrong(name: str, where: str, error: Exception, setting: str) -> Check:
    """Return the line about a server that failed; `setting` is the variable that holds its address."""
    why = reason(error)
    advice = next(advice for pattern, advice in ADVICE if re.match(pattern, why))
    return Check(name, False, f"{where}: {why}", advice.format(setting=setting))
