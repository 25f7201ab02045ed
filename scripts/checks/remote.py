"""DVC's remote: whether it can be reached, read and, if it is a folder, written. Nothing is put there."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from scripts import settings
from scripts.checks.check import Check
from scripts.checks.servers import wrong
from scripts.project import PROJECT, Project


def remote(project: Project = PROJECT) -> Iterator[Check]:
    """Check the remote that DVC uses by default."""
    from scripts import transfer
    from scripts.pipeline import dvc_adapter

    os.environ["AWS_MAX_ATTEMPTS"] = "1"
    with dvc_adapter.repository(project.root) as repo:
        try:
            odb = dvc_adapter.remote_of(repo)
            transfer.contact(odb)
        except transfer.FAULTS as error:
            where, setting = by_settings(os.environ)
            yield wrong("remote", where, transfer.first_cause(error), setting)
            return
    protocol, where = dvc_adapter.protocol(odb), dvc_adapter.url_of(odb)
    if protocol == "local":
        nearest = next(path for path in (Path(odb.path), *Path(odb.path).parents) if path.exists())
        advice = f"{nearest} cannot be written: change its owner or mode"
        yield Check("remote", os.access(nearest, os.W_OK), where.removeprefix("file://"), advice)
    elif protocol in ("http", "https"):
        yield Check("remote", None, f"{where} answers, but keeps no run-cache", "expected a folder or S3 for that")
    else:
        yield Check("remote", True, f"{where} answers, and keeps the run-cache")


def by_settings(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return DVC's remote in words, and which variables hold its address."""
    url, endpoint = environ.get("DVC_REMOTE_URL", "DVC's own"), environ.get("AWS_ENDPOINT_URL")
    if not (url.startswith("s3://") and endpoint):
        return url, "DVC_REMOTE_URL"
    by_dagshub = "DAGSHUB_TOKEN" in environ and url == settings.DAGSHUB_REMOTE
    return f"{url} at {endpoint}", "MLFLOW_TRACKING_URI" if by_dagshub else "DVC_REMOTE_URL or AWS_ENDPOINT_URL"
