"""DVC's remote: the one of .dvc/config, or the one that DVC_REMOTE_URL names, kept in .dvc/config.local."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from configobj import ConfigObj

from scripts.project import LOCAL, ROOT, UserError

CONFIG_LOCAL = ROOT / ".dvc" / "config.local"
SECTION = 'remote "environment"'
S3 = {"connect_timeout": "5", "read_timeout": "10", "verify": "true"}
"""Seconds of silence, each of AWS_MAX_ATTEMPTS times; what is fetched is hashed: it may be a page for signing in."""


def folder_to_mount(environ: Mapping[str, str]) -> Path | None:
    """The folder outside the clone that the remote is in and that this runner does not see yet."""
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
    if folder.is_relative_to(ROOT) or environ.get("RUNNER_MOUNT") == str(folder):
        return None
    return folder


def configure(environ: Mapping[str, str]) -> None:
    """Makes .dvc/config.local (mode 0600) say what the environment says; the rest of that file is left alone.

    Credentials are not written: DVC takes them from the environment.
    """
    (LOCAL / "dvc-remote").mkdir(parents=True, exist_ok=True)
    config = ConfigObj(str(CONFIG_LOCAL), encoding="utf-8", list_values=False)
    config.filename = None  # write() then gives the lines
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
    if config.write() == before:
        return
    # mkstemp's files are readable by their owner alone.
    descriptor, part = tempfile.mkstemp(dir=LOCAL)
    with os.fdopen(descriptor, "wb") as file:
        config.write(file)
    Path(part).replace(CONFIG_LOCAL)
