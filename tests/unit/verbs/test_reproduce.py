"""`make reproduce` makes a version again, and its exit code says whether all was the same."""

import json
import shutil
import subprocess

import pytest

from scripts.digests import sha256
from scripts.pipeline import images
from scripts.verbs import reproduce

DVC_YAML = """\
stages:
  train:
    cmd: mkdir -p models && cp stages/train/weights.txt models/m.bin
    outs: [models/m.bin]
  evaluate:
    cmd: "mkdir -p metrics && printf '{\\"accuracy\\": 0.75%s}' $NOISE > metrics/m.json"
    deps: [models/m.bin]
    metrics: [metrics/m.json]
"""
ARGUMENTS = ["model=flowers", "version=", "a=", "b=", "why="]


def write(project, path, text):
    (project.root / path).parent.mkdir(parents=True, exist_ok=True)
    (project.root / path).write_text(text)


@pytest.fixture
def published(registry, project, git, docker, monkeypatch):
    """A version in the registry that was made from the project's only commit."""
    for name, value in (
        ("MEMORY", "1g"),
        ("CPUS", "1"),
        ("PIDS", "99"),
        ("TIMEOUT", "60"),
        ("OUTPUT_SIZE", "0"),
        ("OUTPUT_FILES", "0"),
    ):
        monkeypatch.setenv(f"STAGE_{name}", value)
    monkeypatch.setenv("NOISE", "")
    write(project, ".gitignore", ".local/\n/models/\n/metrics/\n")
    write(project, "dvc.yaml", DVC_YAML)
    write(project, "params.yaml", "train: {seed: 1}\n")
    write(project, "stages/train/weights.txt", "weights\n")
    for name in ("base", "train", "evaluate"):
        write(project, f"stages/{name}/Dockerfile", "ARG PYTHON_IMAGE=python:3\n")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    subprocess.run(["dvc", "repro", "--quiet"], check=True)
    tags = {name: image.tag for name, image in images.load(project.stages).items()}
    docker.does("image ls", f"echo '{'\n'.join(f'{tag} id' for tag in tags.values())}'")
    digest = sha256(project.root / "models/m.bin")
    folder = registry.add(
        "flowers",
        metrics={"accuracy": 0.75},
        model_sha256=digest,
        model_file="model/m.bin",
        git_commit=git("rev-parse", "HEAD").strip(),
        accuracy="0.75",
    )
    (folder / "pipeline").mkdir()
    (folder / "model").mkdir()
    shutil.copy(project.root / "models/m.bin", folder / "model")
    for name in ("dvc.yaml", "dvc.lock", "params.yaml"):
        shutil.copy(project.root / name, folder / "pipeline")
    (folder / "pipeline/images.json").write_text(json.dumps(tags))
    return folder


def test_the_same_again(published, project, registry, capsys):
    """What is made again byte by byte is identical, the exit code is 0, and nothing is published."""
    before = json.dumps([registry.versions, registry.metrics, registry.aliases])
    assert reproduce.main(ARGUMENTS, project) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[0] == "running train, evaluate of version 1 again ..."
    assert printed.splitlines()[-1] == "version 1 of flowers: identical"
    for what in ("models/m.bin", "metrics/m.json", "the registered model", "metric accuracy", "tag accuracy"):
        assert f"{what} " in printed
    assert json.dumps([registry.versions, registry.metrics, registry.aliases]) == before


def test_something_differs(published, project, capsys):
    """What differs is named, and the exit code is 1."""
    (published / "model/m.bin").write_text("exchanged")
    assert reproduce.main(ARGUMENTS, project) == 1
    printed = capsys.readouterr().out
    assert "the registered model differs: SHA-256 " in " ".join(printed.split())
    assert printed.endswith("version 1 of flowers: differs\n")
