"""Keeps versions of a model below .local/serving: each file is what its hash in the registry says."""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scripts.digests import sha256
from scripts.project import Project, UserError, atomic_write
from scripts.registry import recorded
from scripts.registry.records import DIGEST, Version
from scripts.registry.stage_files import read_value
from scripts.serving.model_server import signature

WANTED, GOOD, SAMPLE, LOG = "wanted.json", "good.json", "sample.json", "log"
MODELS, ABOUT = "models", "about.json"
MLMODEL = "model/MLmodel"
MOST = 5
"""Versions whose files are kept."""
type About = dict[str, Any]
"""Of a version: model, version, sha256, file (below the folder), signature (as MLflow has it, or None)."""


type Stamp = list[tuple[str, int, int]]


def stamp(path: Path) -> Stamp:
    """Return name, size and time of a file, or of each of a folder: quicker than its hash, each few seconds."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


class Kept:
    """What this clone keeps of the versions of a model."""

    def __init__(self, project: Project, model: str) -> None:
        self.model = model
        self.folder = project.local / "serving" / quote(model, safe="")
        self._whole: dict[Path, Stamp] = {}  # files that had their hash when they were last looked at

    def fetch(self, version: Version) -> About:
        """Return a version whose file is here and is what its hash says; download it if it is not.

        Raise UserError if the registry does not give it, or gives something else.
        """
        digest = version.tags.get(DIGEST, "")
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise UserError(
                f"version {version.number} of {self.model} has no hash of its file, since this project did not "
                "register it; expected one of 'make run': name another version"
            )
        place = self.folder / MODELS / digest
        if about := self._there(place, version, digest):
            return about
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".part-") as part:
            file = recorded.fetch(version, recorded.model_file(version), Path(part))
            if file is None:
                raise UserError(
                    f"version {version.number} of {self.model} has no file in its run any more; expected it: name "
                    "another version"
                )
            if (found := sha256(file)) != digest:
                raise UserError(
                    f"the file of version {version.number} of {self.model} is not the one that was published: its "
                    f"SHA-256 is {found[:12]}..., expected {digest[:12]}...: name another version, ask who changed it"
                )
            signature = self._signature(version, Path(part))
            new = Path(part, "new")
            new.mkdir()
            file.rename(new / file.name)
            (new / ABOUT).write_text(json.dumps({"name": file.name, "signature": signature}))
            shutil.rmtree(place, ignore_errors=True)
            new.rename(place)
        return self._there(place, version, digest) or {}

    def _there(self, place: Path, version: Version, digest: str) -> About | None:
        """Return a version that is here whole."""
        try:
            known = json.loads((place / ABOUT).read_text())
            file = place / known["name"]
            now = stamp(file)
            if self._whole.get(file) != now and sha256(file) != digest:
                return None
            self._whole[file] = now
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return {
            "model": self.model,
            "version": version.number,
            "sha256": digest,
            "file": str(file.relative_to(self.folder)),
            "signature": known.get("signature"),
        }

    def _signature(self, version: Version, folder: Path) -> Mapping[str, Any] | None:
        """Return the signature that was published with the version; None if there is none."""
        file = recorded.fetch(version, MLMODEL, folder)
        described = read_value(file) if file else None
        found = described.get("signature") if isinstance(described, Mapping) else None
        if not isinstance(found, Mapping):
            return None
        try:
            signature.columns(found)
        except ValueError as error:
            raise UserError(
                f"version {version.number} of {self.model} has {error}; expected what 'make run' published"
            ) from None
        return {"inputs": found.get("inputs"), "outputs": found.get("outputs")}

    # --- what serves

    def want(self, current: About | None, shadow: About | None, registry: Mapping[str, Any]) -> None:
        """Tell the server what is to serve, and how the registry answered."""
        self.folder.mkdir(parents=True, exist_ok=True)
        told = {"current": current, "shadow": shadow, "registry": registry}
        atomic_write(self.folder / WANTED, json.dumps(told))

    def remember(self, about: About, which: str) -> None:
        """Note that a version serves where `which` is wished for: the one to begin with the next time."""
        atomic_write(self.folder / GOOD, json.dumps(about | {"which": which}))

    def remembered(self, which: str) -> About | None:
        """Return the last version that served where `which` was wished for, if its file is still here and whole."""
        try:
            about = json.loads((self.folder / GOOD).read_text())
            whole = about.pop("which") == which and sha256(self.folder / about["file"]) == about["sha256"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return about if whole else None

    def forget_others(self, used: set[str]) -> None:
        """Delete the files of all but MOST versions; `used` are hashes of those that stay whatever their age."""
        found = sorted((self.folder / MODELS).glob("[0-9a-f]*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for place in [place for place in found if place.name not in used][MOST:]:
            shutil.rmtree(place, ignore_errors=True)
