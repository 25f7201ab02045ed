"""DVC's remote: the one of .dvc/config, or the one that DVC_REMOTE_URL names, kept in .dvc/config.local."""

import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from configobj import ConfigObj

from scripts.project import PROJECT, Project, UserError, atomic_write

OURS = "environment"
"""The remote that DVC_REMOTE_URL makes."""
SECTION = f'remote "{OURS}"'
VERIFIED = {"verify": "true"}
"""DVC hashes what it fetches, where by itself it takes a file for what its name says: the login page of a proxy, or
what a disk has lost a bit of."""
S3 = {"connect_timeout": "5", "read_timeout": "10", "jobs": "10"}
"""Seconds of silence, each AWS_MAX_ATTEMPTS times. And how many files at once: as many as s3fs has connections, where
DVC would have four times the machine's cores in memory.
"""


SECRET = re.compile(
    r"^\s*(password|token|secret_access_key|access_key_id|session_token|connection_string|account_key|sas_token"
    r"|client_secret|key_pwd|custom_auth_header)\s*=\s*\S|://[^/@\s]+:[^/@\s]+@",
    re.MULTILINE,
)
"""What in a config of DVC's is a secret: .dvc/config is committed, and travels with a version as part of its patch."""


def check(environ: Mapping[str, str], project: Project = PROJECT) -> None:
    """Raise UserError for a remote that is neither S3 nor a folder, and for a secret where it would be seen."""
    committed = project.root / ".dvc" / "config"
    if committed.is_file() and (found := SECRET.search(committed.read_text(errors="replace"))):
        what = found[1] or "a password in an address"
        raise UserError(
            f".dvc/config holds {what}, and git keeps that file; expected it in .dvc/config.local, which git ignores: "
            "'dvc remote modify --local', or the variables of .env"
        )
    for name in ("DVC_REMOTE_URL", "AWS_ENDPOINT_URL"):
        if re.match(r"\w+://[^/]*@", environ.get(name, "")):  # never shown
            raise UserError(
                f"{name} holds a user or a password; expected an address alone: put them into AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY"
            )
    url = environ.get("DVC_REMOTE_URL", "")
    if not url or url.startswith("s3://"):
        return
    if not Path(url).is_absolute():
        raise UserError(
            f"DVC_REMOTE_URL is {url!r}; expected an absolute folder or s3://bucket/prefix: correct it in .env"
        )
    if set(url) & set(',:"'):
        raise UserError(
            f"DVC_REMOTE_URL is {url!r}; expected a folder without comma, colon and quotation mark, which Docker's "
            "mounts cannot express: move it"
        )


def configure(environ: Mapping[str, str], project: Project = PROJECT) -> None:
    """Write what the environment says to .dvc/config.local (mode 0600); the rest of that file is left alone.

    Credentials are not written: DVC takes them from the environment.
    """
    project.dvc_remote.mkdir(parents=True, exist_ok=True)
    config = ConfigObj(str(project.dvc_config_local), encoding="utf-8", list_values=False)
    config.filename = None  # write() then returns the lines
    before = config.write()
    core = config.setdefault("core", {})
    if url := environ.get("DVC_REMOTE_URL"):
        core["remote"] = OURS
        config[SECTION] = {"url": url, **VERIFIED}
        if url.startswith("s3://"):
            config[SECTION].update(S3)  # not |=, which ConfigObj would not write
            if endpoint := environ.get("AWS_ENDPOINT_URL"):
                config[SECTION]["endpointurl"] = endpoint
    else:
        config.pop(SECTION, None)
        if core.get("remote") == OURS:
            del core["remote"]
    if not core:
        del config["core"]
    if config.write() != before:
        config.write(text := BytesIO())
        atomic_write(project.dvc_config_local, text.getvalue(), mode=0o600)
