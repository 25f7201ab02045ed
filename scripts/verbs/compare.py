"""`make compare A= B=`: two versions side by side: scores, parameters, data, images, code."""

import json
from collections.abc import Mapping
from pathlib import Path

from tabulate import tabulate

from scripts.project import load_yaml
from scripts.registry import reader
from scripts.verbs.lineage import files
from stages.train.promotion import Version


def facts(version: Version, folder: Path, metrics: Mapping[str, float]) -> dict[str, str]:
    """All that is told of a version, by name, in the order in which it is shown."""
    params = load_yaml((folder / "params.yaml").read_text())
    lock = load_yaml((folder / "dvc.lock").read_text())
    found: dict[str, object] = {"stage": version.stage, "decision": version.tags.get("decision")}
    found |= {name: version.tags.get(name) for name in ("git_commit", "git_dirty")}
    found |= {f"metric {name}": value for name, value in sorted(metrics.items())}
    found |= {f"param {section}.{key}": value for section, values in params.items() for key, value in values.items()}
    found |= {f"data {path}": digest for path, (_, digest) in files(lock).items()}
    found |= {f"image {name}": tag for name, tag in json.loads((folder / "images.json").read_text()).items()}
    return {name: "null" if value is None else str(value) for name, value in found.items()}


def main(arguments: list[str]) -> None:
    given, model, state = reader.ask(arguments)
    versions = [reader.pick(state, given[which]) for which in ("a", "b")]
    sides = []
    for version in versions:
        with reader.pipeline_of(version) as folder, reader.registry_of(model) as (client, _):
            sides.append(facts(version, folder, client.get_run(version.run_id).data.metrics))
    a, b = sides
    rows = [
        ("" if a.get(name) == b.get(name) else "*", name, a.get(name, "-"), b.get(name, "-"))
        for name in dict.fromkeys([*a, *b])
    ]
    headers = ("", "", *(f"version {version.number}" for version in versions))
    print(tabulate(rows, headers, disable_numparse=True))
    print(f"\n{sum(bool(row[0]) for row in rows)} of {len(rows)} differ (*)")
