"""`make dagshub-connect`: makes a DagsHub repository that mirrors this GitHub repository. Asks first.

It does the same as "Create, Connect a repository" in the browser, which also works for an organisation.
"""

import os
import re
import subprocess
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from scripts.faults import reason
from scripts.project import UserError

TIMEOUT = 30  # seconds; DagsHub clones the repository before it answers
GITHUB = re.compile(
    r"(?:https://(?:[^@/]+@)?github\.com/|(?:ssh://)?git@github\.com[:/])"  # each usual form of a remote
    r"([\w.-]+/[\w.-]+?)(?:\.git)?/?"  # owner and repository
)


def github_address(origin: str) -> str:
    """Return the https address of a GitHub remote, which DagsHub clones from. Raise UserError for another remote."""
    match = GITHUB.fullmatch(origin)
    if not match:
        where = urlsplit(origin).hostname or "none"
        raise UserError(f"git's remote origin is at {where}; expected github.com: connect it on DagsHub's site")
    return f"https://github.com/{match[1]}.git"


def wanted(origin: str, environ: Mapping[str, str], user: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request to DagsHub. Raise UserError if the repository of .env does not belong to the token's owner."""
    _, owner, name = environ["MLFLOW_TRACKING_URI"].removesuffix(".mlflow").rsplit("/", 2)
    if owner != user["login"]:
        raise UserError(
            f"MLFLOW_TRACKING_URI names {owner}/{name}, but the token is {user['login']}'s; expected a repository of "
            "its owner: correct it in .env, or connect an organisation's repository on DagsHub's site"
        )
    return {"clone_addr": github_address(origin), "repo_name": name, "uid": user["id"], "mirror": True}


def call(method: str, url: str, token: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return DagsHub's answer. Raise UserError if there is none, or a refusal."""
    try:
        answer = requests.request(method, url, json=body, headers={"Authorization": f"Bearer {token}"}, timeout=TIMEOUT)
        answer.raise_for_status()
        return answer.json()
    except (requests.RequestException, ValueError) as error:
        raise UserError(f"{url} did not do what was asked ({reason(error)}); 'make doctor' says more") from None


def main(arguments: list[str]) -> None:
    token = os.environ.get("DAGSHUB_TOKEN")
    if not token:
        raise UserError("DAGSHUB_TOKEN is empty; expected DagsHub's three settings: fill them in in .env")
    origin = subprocess.run(["git", "remote", "get-url", "origin"], capture_output=True, text=True).stdout.strip()
    host = os.environ["MLFLOW_TRACKING_URI"].rsplit("/", 2)[0]
    body = wanted(origin, os.environ, call("GET", f"{host}/api/v1/user", token))
    print(f"This makes the repository {body['repo_name']} at {host}, a mirror of {body['clone_addr']}.")
    if arguments != ["1"]:
        try:
            answer = input("Go on? [y/N] ")
        except EOFError:
            answer = ""
        if answer not in ("y", "Y", "yes"):
            raise UserError("nothing was done; expected 'y', or YES=1 on the command line")
    made = call("POST", f"{host}/api/v1/repos/migrate", token, body)
    print(f"made: {made.get('html_url', host)}; 'make run' publishes there, and 'make push' sends the data")
