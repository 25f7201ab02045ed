"""Compares what was made again with the record of a version: identical, equal to 6 decimals, or how it differs.

Processors differ in the last digits. Nothing here loads a model.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from scripts.digests import rounded, sha256
from scripts.pipeline import dvc_adapter, live_metrics
from scripts.pipeline.dvc_adapter import md5
from scripts.project import PROJECT, Project
from scripts.registry import logged
from scripts.registry.provenance import LOCK
from scripts.registry.recorded import GIVEN, Lock, Record, cache_path, files, last, made_by
from scripts.registry.records import DIGEST, Version, clean_name
from scripts.registry.stage_files import TABLE_BYTES, Refused, is_number, read_text
from scripts.yaml12 import load_strangers_yaml, load_yaml

IDENTICAL, EQUAL, DIFFERS = "identical", "equal to 6 decimals", "differs"
DECIMAL = re.compile(r"(?<![\w.])[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?(?![\w.])", re.ASCII)
LARGEST = 1.797e308  # what a server's database has for infinity is about this


class Line(NamedTuple):
    """What was compared, and what came of it: IDENTICAL, EQUAL, or DIFFERS and how."""

    what: str
    verdict: str

    @property
    def agrees(self) -> bool:
        return self.verdict in (IDENTICAL, EQUAL)


def verdict(lines: Sequence[Line]) -> str:
    """Return the worst of the lines, in a word or a few."""
    if not all(line.agrees for line in lines):
        return DIFFERS
    return IDENTICAL if all(line.verdict == IDENTICAL for line in lines) else EQUAL


def compare(
    version: Version,
    record: Record,
    metrics: Mapping[str, float],
    registered: Path | None,
    tree: Path,
    printed: Iterable[str],
    project: Project = PROJECT,
) -> list[Line]:
    """Return what `tree` made, beside the record: outputs, the registered file, the metrics of the run, the score.

    `metrics` are those of the version's run, `registered` is its file, `printed` the lines that the stages printed now.
    """
    lock, now = record.lock, load_yaml((tree / LOCK).read_bytes())["stages"]
    outputs = compare_outputs(lock, now, tree, project)
    measures = all(line.agrees for line in outputs if files(lock).get(line.what, ("",))[0] in last(lock))
    path = _path_of(registered, lock)
    found = {stage: logged.read(made_by(record, stage), tree) for stage in lock}
    # Bytes that differ, in a model that scores alike on every row: processors differ in the last digits.
    softened = [
        Line(line.what, EQUAL) if line.what == path and measures and not line.agrees else line for line in outputs
    ]
    return [
        *softened,
        compare_model(
            registered, version.tags.get(DIGEST, "unknown"), tree / path if path else None, measures=measures
        ),
        *damaged(lock, project),
        *tampered(lock, project),
        *compare_metrics(metrics, measured(found), live(printed)),
        *compare_score(version.tags, [found[stage] for stage in last(lock)]),
    ]


def _path_of(registered: Path | None, lock: Lock) -> str | None:
    """Return which output of the record the registered file is, if it is one."""
    digest = md5(registered) if registered else None
    return next(
        (path for path, (stage, recorded) in files(lock).items() if recorded == digest and stage != GIVEN), None
    )


def compare_outputs(before: Lock, after: Lock, tree: Path, project: Project = PROJECT) -> list[Line]:
    """Return a line for each file or folder of the record; `after` is the dvc.lock of `tree`."""
    found, now = [], files(after)
    for path, (_, digest) in files(before).items():
        made = now[path][1] if path in now else "none"
        if made == digest:
            found.append(Line(path, IDENTICAL))
        elif _is_close(digest, tree / path, project):
            found.append(Line(path, EQUAL))
        else:
            found.append(Line(path, f"{DIFFERS}: MD5 {made}, recorded {digest}"))
    return found


def _is_close(digest: str, made: Path, project: Project) -> bool:
    """Return whether a file, or each file of a folder, holds the same to 6 decimals as the copy in DVC's cache."""
    recorded = contents(digest, project)
    if recorded is None or {name for name, _ in _below(made)} != set(recorded):
        return False
    for name, path in _below(made):
        kept = cache_path(recorded[name], project.root)
        if not (kept.is_file() and md5(kept) == recorded[name]):
            return False
        if md5(path) != recorded[name] and not close(kept, path):
            return False
    return True


def _below(path: Path) -> list[tuple[str, Path]]:
    if not path.is_dir():
        return [("", path)] if path.is_file() else []
    return [(file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file()]


def contents(digest: str, project: Project = PROJECT) -> dict[str, str] | None:
    """Return the MD5 of each file in what DVC names by `digest`, by its path in the folder; a file's path is empty.

    None if that is a folder whose list DVC's cache does not have whole. Raise UserError if it names what is not below.
    """
    if not digest.endswith(".dir"):
        return {"": digest}
    path = cache_path(digest, project.root)
    if not path.is_file() or md5(path) != digest.removesuffix(".dir"):
        return None
    try:
        return dvc_adapter.listed(path.read_bytes())
    except ValueError:
        return None


def damaged(lock: Lock, project: Project = PROJECT) -> Iterator[Line]:
    """Yield a line for each file of the record whose copy in DVC's cache is not what it was."""
    for path, (_, digest) in files(lock).items():
        listed = {"": digest.removesuffix(".dir")} if contents(digest, project) is None else {}
        for name, recorded in {**listed, **(contents(digest, project) or {})}.items():
            kept = cache_path(digest if name in listed else recorded, project.root)
            if kept.is_file() and md5(kept) != recorded:
                where = f"{Path(path, name)} in DVC's cache"
                yield Line(where, f"{DIFFERS}: MD5 {md5(kept)}, recorded {recorded}")


def tampered(lock: Lock, project: Project = PROJECT) -> Iterator[Line]:
    """Yield a line for each file in the working tree that was changed by hand: no stage made what it is now."""
    made = {path: digest for path, (stage, digest) in files(lock).items() if stage != GIVEN}
    for path, digest in made.items():
        for name, recorded in (contents(digest, project) or {}).items():
            here = project.root / path / name if name else project.root / path
            if not here.is_file() or md5(here) == recorded:
                continue
            if not cache_path(md5(here), project.root).is_file():
                what = f"{Path(path, name)} in the working tree"
                yield Line(what, f"{DIFFERS}: MD5 {md5(here)}, recorded {recorded}")


def compare_model(registered: Path | None, recorded: str, made: Path | None, *, measures: bool) -> Line:
    """Return the line of the registered file, beside its record and the file that was made now.

    `measures` is whether the scorer found of both the same. Nothing here loads a model.
    """
    what = "the registered model"
    if registered is None:
        return Line(what, f"{DIFFERS}: its file is gone, recorded {recorded}")
    digest = sha256(registered)
    if digest != recorded:
        return Line(what, f"{DIFFERS}: SHA-256 {digest}, recorded {recorded}")
    if made is None or not made.exists():
        return Line(what, f"{DIFFERS}: no stage of its record made it")
    if sha256(made) == digest:
        return Line(what, IDENTICAL)
    return Line(what, EQUAL if measures else f"{DIFFERS}: made again it is {sha256(made)}, and scores differently")


# --- values


def close(one: Path, other: Path) -> bool:
    """Return whether two texts hold the same to 6 decimals; JSON and YAML in any order of keys."""
    try:
        texts = read_text(one, TABLE_BYTES), read_text(other, TABLE_BYTES)
    except Refused:
        return False
    readers = {".json": json.loads} | dict.fromkeys((".yaml", ".yml"), load_strangers_yaml)
    read = readers.get(other.suffix.lower(), _with_short_numbers)
    try:
        first, second = map(read, texts)
        return same(first, second)
    except (ValueError, yaml.YAMLError, RecursionError):
        return False


def _with_short_numbers(text: str) -> str:
    return DECIMAL.sub(lambda match: repr(rounded(float(match[0]))), text)


def same(one: Any, other: Any) -> bool:
    """Return whether two values of JSON or YAML are equal to 6 decimals."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if is_number(one) and is_number(other):
        return rounded(_bounded(one)) == rounded(_bounded(other)) or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and one == other


def _bounded(value: float) -> float:
    return float(max(-LARGEST, min(value, LARGEST))) if isinstance(value, float) else value


def compare_metrics(
    recorded: Mapping[str, float], now: Mapping[str, float], live: Mapping[str, float]
) -> Iterator[Line]:
    """Yield a line for each metric of the run, and for each that the stages' files have now.

    `live` is what the stages printed: it counts for what no file has, if the run has it.
    """
    for name in dict.fromkeys([*now, *recorded]):
        yield _compare_number(f"metric {name}", recorded.get(name), now.get(name, live.get(name)))


def compare_score(tags: Mapping[str, str], contents: Iterable[logged.Content]) -> Iterator[Line]:
    """Yield a line for each tag of the version that bears the name of a number that the scorer measured now."""
    for values in (values for content in contents for values in content.metrics.values()):
        for name, value in values.items():
            if _is_decimal(tags.get(clean_name(name), "")):
                yield _compare_number(f"tag {name}", float(tags[clean_name(name)]), value)


def _is_decimal(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _compare_number(what: str, before: float | None, now: float | None) -> Line:
    if before is None or now is None:
        return Line(what, f"{DIFFERS}: nothing recorded" if before is None else f"{DIFFERS}: not measured now")
    if before == now or (math.isnan(before) and math.isnan(now)):
        return Line(what, IDENTICAL)
    return Line(what, EQUAL if same(float(before), float(now)) else f"{DIFFERS}: {now:g}, recorded {before:g}")


def measured(contents: Mapping[str, logged.Content]) -> dict[str, float]:
    """Return what the stages' files hold, as a run has it: metrics, and the last value of each curve."""
    found = logged.numbers(contents)
    return _last_values(found.steps) | found.metrics


def live(printed: Iterable[str]) -> dict[str, float]:
    """Return the last value of each metric in the lines that the stages printed."""
    found = filter(None, map(live_metrics.parse, printed))
    return _last_values((clean_name(name), one.step, value) for one in found for name, value in one.values.items())


def _last_values(points: Iterable[logged.Point]) -> dict[str, float]:
    """Return the value of the highest step by name; of two at the same step, the later one."""
    found: dict[str, tuple[int, float]] = {}
    for name, step, value in points:
        if name not in found or step >= found[name][0]:
            found[name] = (step, value)
    return {name: value for name, (_, value) in found.items()}
