"""A model and the scorer's own `predict`, behind one call that checks what comes out of it."""

import hashlib
import importlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from . import rows, signature
from .signature import Column

BAD_INPUT = "BadInput"  # the stage kit's, which an image of another shape need not have


class Unusable(Exception):
    """A model that cannot serve. The text is one sentence."""


class Model:
    """A loaded model: its version, the SHA-256 of its file, and the columns that it reads (None: unknown)."""

    def __init__(self, about: Mapping[str, Any], folder: Path) -> None:
        """Load the model that `about` describes from its file below `folder`. Raise Unusable."""
        self.name, self.version, self.sha256 = str(about["model"]), int(about["version"]), str(about["sha256"])
        file = folder / about["file"]
        try:
            if (found := sha256(file)) != self.sha256:
                raise Unusable(f"the file of version {self.version} is damaged: its SHA-256 is {found[:12]}...")
            self.columns: list[Column] | None = signature.columns(about.get("signature"))
            self._program = importlib.import_module("predict")
            self._model = self._program.load(file)
        except OSError as error:
            raise Unusable(f"the file of version {self.version} cannot be read ({error.strerror})") from None
        except Unusable:
            raise
        except (Exception, SystemExit) as error:  # whatever the program, or a library of its, makes of a file
            raise Unusable(f"version {self.version} cannot be loaded ({sentence(error)})") from error

    def predict(self, features: pd.DataFrame) -> pd.DataFrame:
        """Return a row for each row of `features`. Raise BadRows for rows that the program refuses, Unusable for a
        table that is none; what else the program raises passes."""
        try:
            found = self._program.predict(self._model, features)
        except SystemExit as error:  # which would end the server, and all who wait with it
            raise Unusable(f"predict ended the program ({sentence(error)}); expected a table") from None
        except Exception as error:
            if type(error).__name__ == BAD_INPUT:
                raise rows.BadRows(sentence(error)) from None
            raise
        if not isinstance(found, pd.DataFrame) or len(found) != len(features) or not len(found.columns):
            made = f"{len(found)} rows" if isinstance(found, pd.DataFrame) else f"a {type(found).__name__}"
            raise Unusable(f"predict made {made} of {len(features)} rows; expected a table with a row for each")
        return found if _counts_from_0(found.index) else found.reset_index(drop=True)

    def try_on(self, sample: pd.DataFrame | None) -> None:
        """Predict for a sample, and for a row of it alone. Raise Unusable if that fails."""
        features = self.features(sample)
        if features is None:
            return
        try:
            self.predict(features)
            self.predict(features.iloc[:1])
        except Unusable:
            raise
        except Exception as error:
            raise Unusable(f"version {self.version} failed on the sample ({sentence(error)})") from error

    def features(self, sample: pd.DataFrame | None) -> pd.DataFrame | None:
        """Return rows that the model reads: of the sample, if it has the columns, else made up from the signature."""
        if sample is not None and len(sample):
            if self.columns is None:
                return sample
            if {column.name for column in self.columns} <= {*sample}:
                return sample[[column.name for column in self.columns]]
        return pd.DataFrame([signature.example(self.columns)]) if self.columns else None


def _counts_from_0(index: pd.Index) -> bool:
    return isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1


def sentence(error: BaseException) -> str:
    """Return an error in a line, without a path of this machine."""
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return " ".join("a file" if word.strip("'\"(:,").startswith("/") else word for word in text.split())


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's contents, as scripts/digests.py does."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = (file for file in path.rglob("*") if file.is_file())
    lines = sorted(os.fsencode(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n") for file in files)
    return hashlib.sha256(b"".join(lines)).hexdigest()


def read_sample(path: Path) -> pd.DataFrame | None:
    """Return the sample that was kept; None if there is none."""
    try:
        return pd.DataFrame(json.loads(path.read_text()))
    except (OSError, ValueError):
        return None
