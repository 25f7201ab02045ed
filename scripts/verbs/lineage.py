"""`make lineage VERSION=`: from a version to its run, its commit, its images, its parameters and each file's place."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scripts import tables
from scripts.pipeline.console import tell
from scripts.pipeline.params import as_written
from scripts.project import PROJECT, Project
from scripts.registry import reader, recorded
from scripts.registry.provenance import LOCK, PATCH
from scripts.registry.recorded import FOLDER, NOT_PUSHED, Record
from scripts.registry.records import State, Version
from scripts.tables import Part, Table

UNKNOWN = "unknown"


def lineage(model: str, state: State, version: Version, record: Record, project: Project = PROJECT) -> dict[str, Any]:
    """Return what is known of a version: what it is, its images, its parameters, its files and their places."""
    files = recorded.files(record.lock)
    places = recorded.remote_places([digest for _, digest in files.values()], project.root)
    return {
        **recorded.description(model, state, version, record),
        "images": record.images,
        "params": record.params,
        "files": [
            {"path": path, "made_by": made_by, "md5": digest, "remote": places[digest]}
            for path, (made_by, digest) in files.items()
        ],
    }


def parts(found: Mapping[str, Any]) -> list[Part]:
    """Return the tables of a version, and the links that lead on from it."""
    patch, links = found["patch_lines"], [found["page"], found["commit_page"]]
    about = {
        "model": f"{found['model']} version {found['version']} ({', '.join([found['stage'], *found['aliases']])})",
        "file": f"{found['file']}, SHA-256 {found['sha256'] or UNKNOWN}",
        "decision": f"{found['decision'] or 'none yet'}: {found['reason'] or ''}",
        "run": found["run"],
        "commit": found["commit"] or UNKNOWN,
        "patch": f"{patch} lines beyond the commit: the run's artifact {FOLDER}/{PATCH}" if patch else "",
        "lock": f"{FOLDER}/{LOCK}, SHA-256 {found['lock_sha256'] or UNKNOWN}",
    }
    files = [(file["path"], file["made_by"], file["md5"], _pushed(file["remote"])) for file in found["files"]]
    params = [(name, as_written(value)) for name, value in found["params"].items()]
    return [
        Table((), [(name, value) for name, value in about.items() if value]),
        "\n".join(filter(None, links)),
        Table(("image", "tag"), [*found["images"].items()]),
        Table(("param", "value"), params),
        Table(("file", "made by", "md5", "pushed"), files),
        "\n".join(_places(found["files"])),
    ]


def _pushed(place: str) -> str:
    return "no" if place == NOT_PUSHED else "unknown" if place.startswith(UNKNOWN) else "yes"


def _places(files: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each place of pushed files, and why it is not known of others."""
    places = {file["remote"]: file["md5"] for file in files if file["remote"] != NOT_PUSHED}
    below = [place.removesuffix(f"{md5[:2]}/{md5[2:]}") for place, md5 in places.items()]
    for place in dict.fromkeys(below):
        is_known = _pushed(place) == "yes"
        yield f"pushed to {place} first two digits of the md5/the others" if is_known else f"pushed: {place}"


def main(arguments: list[str], project: Project = PROJECT) -> None:
    form = tables.form(reader.parse(arguments))
    found = []
    for name in reader.names(reader.parse(arguments)):
        given, model, state = reader.ask([*arguments, f"model={name}"])
        version = reader.pick(state, given["version"])
        with recorded.record_of(version) as record:
            found.append(lineage(model, state, version, record, project))
    tell(tables.written(form, {"versions": found}, [part for each in found for part in parts(each)]))
