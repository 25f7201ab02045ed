"""Places outside of the clone that DVC or the pipeline needs: the runner sees those alone that it was started with.

What is written anywhere else would be gone with the runner, so scripts/host/places.sh looks for them before it starts.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from configobj import ConfigObj

from scripts import remote
from scripts.project import PROJECT, Project, UserError

REMOTE = re.compile(r"""['"]?remote ['"]?([^'"]*)['"]*""")
"""A section of DVC's configuration, as ConfigObj names it: `remote "nas"`, in quotation marks or not."""
FILE_URL = "file:/"


def check(environ: Mapping[str, str], project: Project = PROJECT) -> None:
    """Raise UserError if a folder that DVC's configuration names is not to be seen here, or is no path to DVC."""
    for what, folder in configured(project):
        if FILE_URL in str(folder):
            raise UserError(
                f"{what} is an address that begins with {FILE_URL}, which DVC takes for a name in the folder at hand; "
                "expected a path: correct it with 'dvc remote modify' or in .dvc/config"
            )
        if not is_here(folder, environ, project):
            raise UserError(f"{what} is {folder}, which is not here; expected a folder that exists: make it")


def check_paths(paths: Iterable[str], environ: Mapping[str, str], project: Project = PROJECT) -> None:
    """Raise UserError if one of the pipeline's `paths` is, or lies behind, a link to a place that is not seen here."""
    for path in paths:
        leads_to = Path(os.path.realpath(project.root / path))
        if not is_here(leads_to, environ, project):
            raise UserError(
                f"{path} leads to {leads_to}, which the runner does not see; expected a link to what exists and "
                "is not the system's, from below data/external or at most two folders deep: correct the link"
            )


def is_here(path: Path, environ: Mapping[str, str], project: Project = PROJECT) -> bool:
    """Return whether a path is in the clone, or in a place that the runner was started with."""
    seen = [str(project.root), *filter(None, environ.get("RUNNER_MOUNTS", "").split(":"))]
    return any(path.is_relative_to(place) or path.is_relative_to(os.path.realpath(place)) for place in seen)


def is_in_cache(path: Path, project: Project = PROJECT) -> bool:
    """Return whether a path leads into DVC's cache."""
    cache = _config(project).get("cache", {}).get("dir")
    folder = _absolute(cache, project) if cache else project.cache
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def configured(project: Project = PROJECT) -> Iterator[tuple[str, Path]]:
    """Yield the folders of this machine that DVC will use, each after a word for it: default remote and cache."""
    if cache := _config(project).get("cache", {}).get("dir"):
        yield "the cache of DVC's configuration (cache.dir)", _absolute(cache, project)
    name, url = default_remote(project)
    if url and (url.startswith(FILE_URL) or "://" not in url):
        what = "DVC_REMOTE_URL" if name == remote.OURS else f"the remote {name} of DVC's configuration"
        yield what, _absolute(url, project)


def default_remote(project: Project = PROJECT) -> tuple[str, str]:
    """Return the name and the address of DVC's default remote, as they are configured; both empty if there is none."""
    config = _config(project)
    name = config.get("core", {}).get("remote", "")
    return name, config.get(f"remote {name}", {}).get("url", "")


def _config(project: Project) -> dict[str, dict[str, str]]:
    """Return the sections of DVC's configuration, a remote as `remote X`; the local file's values come first."""
    found: dict[str, dict[str, str]] = {}
    for name in ("config", "config.local"):
        file = str(project.root / ".dvc" / name)
        for section, values in ConfigObj(file, encoding="utf-8", list_values=False).items():
            match = REMOTE.fullmatch(section)
            found.setdefault(f"remote {match[1]}" if match else section, {}).update(values)
    return found


def _absolute(path: str, project: Project) -> Path:
    """Return where DVC looks for a path of its configuration."""
    return Path(os.path.normpath(project.root / ".dvc" / path))
