"""Answers of servers, by plain HTTP and within bounds: what a server sends is a stranger's."""

import threading
from typing import Any

import requests
import urllib3

LARGEST = 64 << 20  # bytes, unpacked; ten times the largest registry seen
LONGEST = 60  # seconds for all of it: requests counts only the silence between two pieces
PIECE = 1 << 16
PAGES = 1000
"""Of a list that a server gives page by page, a thousand entries each."""


def get(url: str, **options: Any) -> requests.Response:
    """Return what `requests.get` does, read whole.

    Raise RequestException also if it is too much, does not end, or is not what it says that it is.
    """
    found: list[requests.Response | requests.RequestException] = []

    def fetch() -> None:
        try:
            found.append(_read(url, options))
        except requests.RequestException as error:
            found.append(error)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(LONGEST)
    if not found:
        raise requests.exceptions.ReadTimeout(f"timed out: its answer has not ended within {LONGEST} s")
    if isinstance(found[0], requests.RequestException):
        raise found[0]
    return found[0]


def _read(url: str, options: dict[str, Any]) -> requests.Response:
    body = bytearray()
    with requests.get(url, stream=True, **options) as response:
        try:
            while piece := response.raw.read1(PIECE, decode_content=True):
                body += piece
                if len(body) > LARGEST:
                    raise requests.exceptions.ContentDecodingError(f"it answers with more than {LARGEST >> 20} MiB")
        except urllib3.exceptions.HTTPError as error:
            raise requests.exceptions.ConnectionError(error) from error
    response._content = bytes(body)
    return response


def json(response: requests.Response) -> Any:
    """Return the JSON of an answer. Raise ValueError if it is none, or lies too deep in itself to be read."""
    try:
        return response.json()
    except RecursionError:
        raise ValueError("it answers with JSON that is too deep") from None
