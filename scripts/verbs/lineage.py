"""`make lineage VERSION=`: from a version to its run, its commit, its images, its parameters and each file's place."""

from scripts.project import PROJECT, Project
from scripts.registry import reader, recorded
from scripts.registry.recorded import Record, table
from scripts.registry.records import State, Version


def lineage(model: str, state: State, version: Version, record: Record, project: Project = PROJECT) -> list[str]:
    """Return the tables of a version: what it is, its images, its parameters, its files and their places."""
    files = recorded.files(record.lock)
    places = recorded.remote_places([digest for _, digest in files.values()], project.root)
    rows = [(path, made_by, digest, places[digest]) for path, (made_by, digest) in files.items()]
    return [
        table(recorded.description(model, state, version, record)),
        table(record.images.items(), ("image", "tag")),
        table(record.params.items(), ("param", "value")),
        table(rows, ("file", "made by", "md5", "in the remote")),
    ]


def main(arguments: list[str], project: Project = PROJECT) -> None:
    for place, name in enumerate(reader.names(reader.parse(arguments))):
        given, model, state = reader.ask([*arguments, f"model={name}"])
        version = reader.pick(state, given["version"])
        with recorded.record_of(version) as record:
            text = "\n\n".join(lineage(model, state, version, record, project))
        print(f"\n\n{text}" if place else text)
