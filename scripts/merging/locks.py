"""Merges three versions of dvc.lock, stage by stage: the rule, pure.

git merges dvc.lock line by line, so that an entry can come out with the command of one side and the inputs of the
other: a result that nobody ever had, and that DVC takes for up to date if its outputs are the same on one side.
Here an entry is one side's, whole.
"""

import graphlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Entry = Mapping[str, Any]
Lock = Mapping[str, Entry]
"""The stages of a dvc.lock: entries by name."""
Wanted = Mapping[str, Entry | None]
"""The stages of the merged dvc.yaml: `cmd` and `params` as an entry has them; None if both sides changed them."""


class Merged(NamedTuple):
    """`stages` are whole entries. Of those in `unknown` and `differing` ours are in there, and a person must decide.

    `unknown`: changed on both sides, and neither is a result of the merged pipeline.
    `differing`: other outputs on each side, for the same command, parameters and inputs.
    """

    stages: dict[str, Entry]
    unknown: list[str]
    differing: list[str]


def merge(base: Lock, ours: Lock, theirs: Lock, wanted: Wanted) -> Merged:
    """Merge what two sides made of `base`; `wanted` decides about a stage that both changed, or that one removed.

    An entry that only one side changed is taken as that side has it, one that dvc.yaml has is never lost. If both ran
    the merged pipeline's command on inputs that the merge replaces, ours stays, which DVC then runs again.
    """
    merged: dict[str, Entry] = {}
    both = []
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        before, mine, other = base.get(name), ours.get(name), theirs.get(name)
        if mine is None or other is None:
            if before is None or name in wanted:
                merged[name] = other if mine is None else mine
            continue
        changed_by_both = not any(same(*pair) for pair in ((mine, other), (mine, before), (other, before)))
        if changed_by_both and name not in wanted:
            continue  # DVC leaves the entry of a stage that is no longer there
        merged[name] = other if same(mine, before) else mine
        if changed_by_both:
            both.append(name)
    found = Merged(merged, [], [])
    for name in _in_order(both, ours):
        fitting = [entry for entry in (ours[name], theirs[name]) if fits(entry, wanted.get(name))]
        current = [entry for entry in fitting if _reads(entry, merged)]
        if not fitting:
            found.unknown.append(name)
        elif len(current) == 2:
            found.differing.append(name)
        else:
            merged[name] = (current or fitting)[0]
    return found


def fits(entry: Entry, wanted: Entry | None) -> bool:
    """Return whether an entry is a result of the command and the parameters that the merged pipeline has."""
    if wanted is None:
        return False
    return same(commands(entry), commands(wanted)) and same(entry.get("params") or {}, wanted.get("params") or {})


def commands(entry: Entry) -> list[Any]:
    """Return the commands of an entry, or of a stage of dvc.yaml: DVC takes a text for a list of one."""
    found = entry.get("cmd") or []
    return list(found) if isinstance(found, list) else [found]


def _reads(entry: Entry, merged: Lock) -> bool:
    """Return whether the inputs of an entry are the outputs that the merged stages have."""
    made = {file["path"]: content(file) for other in merged.values() for file in files(other, "outs")}
    inputs = files(entry, "deps")
    return all(same(content(file), made[file["path"]]) for file in inputs if file["path"] in made)


def files(entry: Entry, kind: str) -> list[Mapping[str, Any]]:
    """Return the files of an entry, `deps` or `outs`: a branch may be anybody's, so no other value is one."""
    found = entry.get(kind)
    listed = found if isinstance(found, list) else []
    return [file for file in listed if isinstance(file, Mapping) and isinstance(file.get("path"), str)]


def content(file: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells the content of a file in an entry, whatever its hash is called."""
    return {name: value for name, value in file.items() if name != "path"}


def _in_order(names: Sequence[str], lock: Lock) -> list[str]:
    """Return `names` with each stage after those whose outputs it reads. Raise ValueError if there is no order."""
    makers = {file["path"]: name for name, entry in lock.items() for file in files(entry, "outs")}
    needs = {name: {makers.get(file["path"]) for file in files(entry, "deps")} - {None} for name, entry in lock.items()}
    try:
        order = [*graphlib.TopologicalSorter(needs).static_order()]
    except graphlib.CycleError as error:
        raise ValueError(f"its stages {' and '.join(error.args[1][1:])} wait for each other") from None
    return [name for name in order if name in set(names)]


# --- values


class _Clash:
    """Stands in a merged value for what both sides changed, each in its way."""

    def __repr__(self) -> str:
        return "CLASH"


CLASH = _Clash()
_ABSENT = object()


def three_way(base: Any, ours: Any, theirs: Any) -> Any:
    """Return what two sides made of `base`, mappings key by key; CLASH in place of what both changed."""
    if same(ours, theirs) or same(base, theirs):
        return ours
    if same(base, ours):
        return theirs
    if not (isinstance(ours, Mapping) and isinstance(theirs, Mapping)):
        return CLASH
    before = base if isinstance(base, Mapping) else {}
    versions = (before, ours, theirs)
    merged = {key: three_way(*(version.get(key, _ABSENT) for version in versions)) for key in {**ours, **theirs}}
    return {key: value for key, value in merged.items() if value is not _ABSENT}


def clashes(value: Any) -> bool:
    """Return whether there is a CLASH in a merged value."""
    if isinstance(value, Mapping):
        return any(map(clashes, value.values()))
    return value is CLASH


def same(one: Any, other: Any) -> bool:
    """Return whether two values of YAML are the same: 1, 1.0 and true are not, .nan and .nan are."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and (one == other or (one != one and other != other))
