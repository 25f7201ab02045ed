"""DVC's remote: the one of .dvc/config, or the one that DVC_REMOTE_URL names, kept in .dvc/config.local."""

import os
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from configobj import ConfigObj

from scripts.project import PROJECT, Project, UserError, atomic_write

SECTION = 'remote "environment"'
S3 = {"connect_timeout": "5", "read_timeout": "10", "verify": "true"}
"""Seconds of silence, each AWS_MAX_ATTEMPTS times. DVC hashes what it fetches, but not the login page of a proxy."""


def folder_to_mount(environ: Mapping[str, str], project: Project = PROJECT) -> Path | None:
    """Return the folder outside the clone that holds the remote and that this runner does not see yet.

    Raise UserError for a remote that is neither a folder that Docker can mount nor S3.
    """
    url = environ.get("DVC_REMOTE_URL", "")
    if not url or url.startswith("s3://"):
        return None
    if not Path(url).is_absolute():
        raise UserError(
            f"DVC_REMOTE_URL is {url!r}; expected an absolute folder or s3://bucket/prefix: correct it in .env"
        )
    if set(url) & set(',:"'):
        raise UserError(
            f"DVC_REMOTE_URL is {url!r}; expected a folder without comma, colon and quotation mark, which Docker's "
            "mounts cannot express: move it"
        )
    folder = Path(os.path.normpath(url))
    if folder.is_relative_to(project.root) or environ.get("RUNNER_MOUNT") == str(folder):
        return None
    return folder


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
        core["remote"] = "environment"
        config[SECTION] = {"url": url}
        if url.startswith("s3://"):
            config[SECTION].update(S3)  # not |=, which ConfigObj would not write
            if endpoint := environ.get("AWS_ENDPOINT_URL"):
                config[SECTION]["endpointurl"] = endpoint
    else:
        config.pop(SECTION, None)
        if core.get("remote") == "environment":
            del core["remote"]
    if not core:
        del config["core"]
    if config.write() != before:
        config.write(text := BytesIO())
        atomic_write(project.dvc_config_local, text.getvalue(), mode=0o600)
