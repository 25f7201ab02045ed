"""What only some stages need: memory of other kinds, options of Docker, a stage for each value, a GPU."""

import json
from collections.abc import Callable

import pytest

from tests.conftest import NOTHING, Clone, last_line, stages_line

pytestmark = pytest.mark.docker

PROBE = """\
import argparse, json, os, pathlib, resource, socket, sys
parser = argparse.ArgumentParser()
for name in ("out", "seed", "item"):
    parser.add_argument(f"--{name}")
args = parser.parse_args()
size = {place: os.statvfs(place).f_blocks * os.statvfs(place).f_frsize for place in ("/dev/shm", "/tmp")}
found = size | {"files": resource.getrlimit(resource.RLIMIT_NOFILE)[0], "host": socket.gethostname()}
pathlib.Path(args.out).write_text(json.dumps(found | {"item": args.item, "seed": args.seed}))
"""
BLOCK = """\
stages:
{{ stage("probe", foreach=["a", "b"], outputs={"out": "data/probe/${item}/found.json"},
         shm="256m", tmp="32m", options=["--hostname=a-probe", "--ulimit=nofile=333:333"]) }}
"""


@pytest.fixture
def clone(clone_at: Callable[[str], Clone]) -> Clone:
    """Return a clone whose pipeline is the one block above."""
    clone = clone_at("blocks")
    (clone.path / "stages/probe").mkdir()
    (clone.path / "stages/probe/probe.py").write_text(PROBE)
    (clone.path / "params.yaml").write_text("probe:\n  seed: 1\n")
    (clone.path / "dvc.yaml.template").write_text(BLOCK)
    return clone


def test_what_a_block_says_is_what_its_container_has(clone: Clone) -> None:
    """/dev/shm, /tmp and options are as the block says, for the stage of each value; another limit reruns nothing, a
    value more runs its own stage alone; without a GPU, and for an option that opens the border, one sentence."""
    assert stages_line(clone.make("run")) in ("ran probe@a, probe@b", "ran probe@b, probe@a")  # side by side
    for item in ("a", "b"):
        found = json.loads((clone.path / f"data/probe/{item}/found.json").read_text())
        assert found == {
            "/dev/shm": 256 << 20, "/tmp": 32 << 20, "files": 333, "host": "a-probe", "item": item, "seed": "1"
        }  # fmt: skip
    (clone.path / ".env").write_text("PROBE_SHM=128m\n")
    clone.edit("dvc.yaml.template", 'tmp="32m"', 'tmp="64m"')
    assert stages_line(clone.make("run")) == NOTHING
    clone.edit("dvc.yaml.template", '["a", "b"]', '["a", "b", "c"]')
    assert stages_line(clone.make("run")) == "ran probe@c"
    found = json.loads((clone.path / "data/probe/c/found.json").read_text())
    assert (found["/dev/shm"], found["/tmp"]) == (128 << 20, 64 << 20)
    assert stages_line(clone.make("run-probe")) == NOTHING
    clone.edit("dvc.yaml.template", 'tmp="64m"', 'gpus="all"')
    done = clone.make("run-probe@a", check=False)
    if done.returncode:  # no machine with a GPU was to be had: what one does is not tested
        assert done.returncode == 2
        assert last_line(done).startswith(
            "error: stage probe@a asks for a GPU (gpus in its block), and the Docker engine has none to give; expected"
        )
    (clone.path / ".env").write_text("PROBE_GPUS=none\n")
    clone.make("run-probe@a")
    clone.edit("dvc.yaml.template", 'gpus="all"', 'options=["--privileged"]')
    clone.edit("dvc.yaml.template", ', options=["--hostname=a-probe", "--ulimit=nofile=333:333"]', "")
    done = clone.make("run", check=False)
    assert done.returncode == 2
    assert "options holds --privileged, which would break a promise (a stage's container may do" in last_line(done)
