"""A pipeline of two stages whose first one does whatever a test says, and what must not change while it does."""

import base64
import hashlib
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import Clone, Make, new_clone, stages_line

ATTACK = """\
import argparse, base64, os, sys
from pathlib import Path
parser = argparse.ArgumentParser()
for name in ("one", "many", "scores", "code"):
    parser.add_argument(f"--{name}")
args = parser.parse_args()
one, many, scores = (Path(path) for path in (args.one, args.many, args.scores))
many.mkdir(parents=True, exist_ok=True)
one.write_text("one")
(many / "part").write_text("part")
scores.write_text('{"accuracy": 0.5}')
exec(base64.b64decode(args.code).decode())
"""
"""A stage with three outputs, as they should be; then it does what the parameter `code` says."""
NEXT = """\
import argparse
from pathlib import Path
parser = argparse.ArgumentParser()
for name in ("one", "many", "out"):
    parser.add_argument(f"--{name}")
args = parser.parse_args()
found = [Path(args.one).read_text(), *sorted(path.name for path in Path(args.many).rglob("*"))]
Path(args.out).write_text(" ".join(found))
"""
TEMPLATE = """\
stages:
{{ stage("attack", outputs={"one": "made/one.txt", "many": "made/many"}, metrics={"scores": "made/scores.json"}) }}
{{ stage("next", inputs={"one": "made/one.txt", "many": "made/many"}, outputs={"out": "seen/out.txt"}) }}
"""
IGNORED = (".local", "made", "seen", "dvc_plots")
"""What a run may change below the clone, besides dvc.yaml, dvc.lock, params.yaml, and DVC's own cache."""


def _state(path: Path) -> tuple[int, str]:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return mode, str(path.readlink())
    return mode, "" if stat.S_ISDIR(mode) else hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class Attacked:
    """A clone with the pipeline; `neighbour` is a file beside it, which nothing may reach."""

    clone: Clone
    neighbour: Path
    before: dict[str, tuple[int, str]] = field(default_factory=dict)

    def does(self, code: str) -> None:
        """Let the first stage run this code."""
        encoded = base64.b64encode(f"pass\n{code}\n".encode()).decode()
        (self.clone.path / "params.yaml").write_text(f'attack:\n  code: "{encoded}"\n')

    def run(self, **options: str) -> Make:
        return self.clone.make("run", check=False, timeout=300, **options)

    def watched(self) -> dict[str, tuple[int, str]]:
        """Return mode and content of each file that no stage may change."""
        found = {str(self.neighbour): _state(self.neighbour)}
        for top in self.clone.path.iterdir():
            if top.name in IGNORED or top.name in (".dvc", "dvc.yaml", "dvc.lock", "params.yaml"):
                continue
            for path in [top, *(top.rglob("*") if top.is_dir() and not top.is_symlink() else [])]:
                if path.name != "index" and "__pycache__" not in path.parts:  # git's own list of files
                    found[str(path.relative_to(self.clone.path))] = _state(path)
        for path in (".dvc/config", ".dvc/.gitignore", ".local/mlflow-password"):
            if (self.clone.path / path).exists():
                found[path] = _state(self.clone.path / path)
        return found

    def check_untouched(self) -> None:
        assert self.watched() == self.before
        left = [path for path in ("work", "early") if (self.clone.path / ".local" / path).exists()]
        assert not left, f".local has {left}"
        assert not self.clone.docker("container", "ls", "--all", "--quiet", "--filter", "label=pipeline.stage")

    def check_next_run(self, nonce: str) -> None:
        """The next ordinary run is right without a hand."""
        self.does(f"one.write_text({nonce!r})")
        done = self.run()
        assert done.returncode == 0, done.stdout
        assert stages_line(done) == "ran attack, next"
        assert (self.clone.path / "seen" / "out.txt").read_text() == f"{nonce} part"
        self.check_untouched()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="module")
def attacked(request: pytest.FixtureRequest) -> Iterator[Attacked]:
    """The pipeline, run once as it should be."""
    clone = new_clone(f"border-{request.path.stem}")
    for stage in (clone.path / "stages").iterdir():
        if stage.is_dir() and stage.name != "base":
            shutil.rmtree(stage)
    write(clone.path / "stages" / "attack" / "attack.py", ATTACK)
    write(clone.path / "stages" / "next" / "next.py", NEXT)
    write(clone.path / "dvc.yaml.template", TEMPLATE)
    neighbour = clone.path.parent / f"neighbour-of-{clone.path.name}"
    neighbour.write_text("of somebody else")
    found = Attacked(clone, neighbour)
    found.does("")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "a stage that does what it is told")
    done = found.run()
    assert done.returncode == 0, done.stdout
    found.before = found.watched()
    yield found
    clone.make("down")
