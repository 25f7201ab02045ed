"""DagsHub: the token's owner, and the repository."""

import os
from collections.abc import Iterator
from typing import Any

from scripts.checks.check import Check
from scripts.checks.servers import TIMEOUT, wrong


def dagshub() -> Iterator[Check]:
    """Check that the token is the user's, and that the user may write to the repository."""
    token = os.environ.get("DAGSHUB_TOKEN")
    if not token:
        yield Check("DagsHub", True, "not used: no token in .env")
        return
    import httpx
    from dagshub.auth.token_auth import HTTPBearerAuth
    from dagshub.common.api import RepoAPI
    from dagshub.common.helpers import http_request

    host, owner, name = os.environ["MLFLOW_TRACKING_URI"].removesuffix(".mlflow").rsplit("/", 2)
    auth = HTTPBearerAuth(token)

    def ask(url: str) -> dict[str, Any]:
        return http_request("GET", url, auth=auth, timeout=TIMEOUT).raise_for_status().json()

    try:
        login = ask(f"{host}/api/v1/user")["login"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        yield wrong("DagsHub", host, error, "MLFLOW_TRACKING_URI")
        return
    same = login == os.environ["DAGSHUB_USER_NAME"]
    yield Check("DagsHub", same, f"the token is {login}'s", "expected DAGSHUB_USER_NAME's: correct one of both in .env")
    try:
        permissions = ask(RepoAPI(f"{owner}/{name}", host, auth).repo_api_url).get("permissions") or {}
    except (httpx.HTTPError, ValueError) as error:
        yield wrong("repository", f"{owner}/{name}, as {login}", error, "MLFLOW_TRACKING_URI")
        return
    writes = permissions.get("push", True)
    found = f"{owner}/{name}, which {login} {'may write' if writes else 'may only read'}"
    yield Check("repository", writes, found, f"expected write access: ask {owner}, or make a token that has it")
