"""What a stage's container can see and do: what its block declares, and nothing else.

Each `docker run` of dvc.yaml is typed as it stands into `make shell`; in the container a probe looks around instead of
the stage.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.project import ROOT
from tests.conftest import Clone, Make, owner_of, with_probe

pytestmark = pytest.mark.docker

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
ONLINE = {"train"}  # which publishes
LIMITS = "STAGE_MEMORY=640m\nSTAGE_CPUS=0.75\nSTAGE_PIDS=96\nTRAIN_MEMORY=768m\nTRAIN_CPUS=1\nTRAIN_PIDS=128\n"
EXPECTED_LIMITS = {name: {"memory": 640 << 20, "cpus": 0.75, "pids": 96} for name in STAGES}
EXPECTED_LIMITS["train"] = {"memory": 768 << 20, "cpus": 1, "pids": 128}

PROBE = r"""
import json, os
from pathlib import Path

def can_write(folder):
    try:
        os.close(os.open(f"{folder}/.probe", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except OSError:
        return False
    os.remove(f"{folder}/.probe")
    return True

def can_change(path):
    try:
        open(path, "ab").close()
    except OSError:
        return False
    return True

def limit(*names):
    # Where the control groups of version 2 and of version 1 keep it.
    return next(path.read_text().split() for path in map(Path("/sys/fs/cgroup").joinpath, names) if path.exists())

writable, names, files = [], set(), {}
for folder, folders, here in os.walk("/"):
    if folder == "/":
        folders[:] = [name for name in folders if name not in ("proc", "sys")]
    names.update(folders, here)
    if can_write(folder):
        writable.append(folder)
    if folder == "/work" or folder.startswith("/work/"):
        files |= {os.path.relpath(f"{folder}/{name}", "/work"): can_change(f"{folder}/{name}") for name in here}
quota = limit("cpu.max", "cpu/cpu.cfs_quota_us")
period = quota[1:] or limit("cpu/cpu.cfs_period_us")
print("PROBE", json.dumps({
    "user": [os.getuid(), os.getgid()],
    "groups": os.getgroups(),
    "status": {key: value.strip() for key, value in (line.split(":", 1) for line in open("/proc/self/status"))},
    "limits": {"memory": int(limit("memory.max", "memory/memory.limit_in_bytes")[0]),
               "cpus": int(quota[0]) / int(period[0]),
               "pids": int(limit("pids.max", "pids/pids.max")[0])},
    "mounts": {fields[4]: fields[5].split(",")[0] for fields in map(str.split, open("/proc/self/mountinfo"))},
    "writable": writable, "names": sorted(names), "files": files, "environment": sorted(os.environ),
    "interfaces": os.listdir("/sys/class/net"),
    "routes": [line.split()[0] for line in open("/proc/net/route")][1:]
            + [line.split()[-1] for line in open("/proc/net/ipv6_route") if line.split()[-1] != "lo"],
}))
"""


@pytest.fixture(scope="module")
def probed(started: tuple[Clone, Make]) -> Iterator[dict[str, dict[str, Any]]]:
    """What the probe found in the container of each stage, with limits that .env sets."""
    clone = started[0]
    dotenv = clone.path / ".env"
    before = dotenv.read_text()
    dotenv.write_text(LIMITS)
    typed = "\n".join(with_probe(stage["cmd"][-1], PROBE) for stage in STAGES.values())
    printed = clone.make("shell", stdin=typed).stdout
    dotenv.write_text(before)
    found = [json.loads(line.removeprefix("PROBE ")) for line in printed.splitlines() if line.startswith("PROBE ")]
    assert len(found) == len(STAGES), printed
    yield dict(zip(STAGES, found, strict=True))


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest) -> str:
    """Each stage of dvc.yaml in turn."""
    return request.param


def inputs(stage: str) -> list[str]:
    return STAGES[stage].get("deps", [])


def outputs(stage: str) -> list[str]:
    return [path for kind in ("outs", "metrics", "plots") for path in STAGES[stage].get(kind, [])]


def output_folder(stage: str) -> str:
    (folder,) = {str(Path(path).parent) for path in outputs(stage)}
    return folder


def test_it_runs_as_the_owner_of_the_clone(
    stage: str, probed: dict[str, dict[str, Any]], started: tuple[Clone, Make]
) -> None:
    """A stage has the uid and the gid of the clone's owner, and no other group."""
    uid, gid = owner_of(started[0].path)
    assert probed[stage]["user"] == [uid, gid]
    assert set(probed[stage]["groups"]) <= {gid}


def test_it_has_no_capabilities_and_gains_none(stage: str, probed: dict[str, dict[str, Any]]) -> None:
    """A stage's capability sets are all empty, and no program that it starts can have more."""
    status = probed[stage]["status"]
    sets = {name: int(value, 16) for name, value in status.items() if name.startswith("Cap")}
    assert {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} <= sets.keys()
    assert not any(sets.values())
    assert status["NoNewPrivs"] == "1"


def test_it_has_the_limits_of_dotenv(stage: str, probed: dict[str, dict[str, Any]]) -> None:
    """The kernel holds a stage to the memory, the processors and the processes that .env names for it."""
    assert probed[stage]["limits"] == EXPECTED_LIMITS[stage]


def test_it_can_write_its_output_folder_and_tmp_alone(stage: str, probed: dict[str, dict[str, Any]]) -> None:
    """A stage can write its output folder and /tmp, and no other folder (/dev, which is in memory, aside)."""
    writable = {path for path in probed[stage]["writable"] if not re.match(r"/dev(/|$)", path)}
    assert writable == {f"/work/{output_folder(stage)}", "/tmp"}
    mounts = probed[stage]["mounts"]
    assert mounts["/"] == "ro"


def test_it_has_the_declared_mounts_alone(stage: str, probed: dict[str, dict[str, Any]]) -> None:
    """Mounted are a stage's inputs, read-only, its output folder and /tmp, besides what every container has."""
    every = r"/|/(proc|sys|dev)(/.*)?|/etc/(hosts|hostname|resolv\.conf)|/s?bin/docker-init|/usr/s?bin/docker-init"
    mounts = {path: mode for path, mode in probed[stage]["mounts"].items() if not re.fullmatch(every, path)}
    assert mounts == {f"/work/{path}": "ro" for path in inputs(stage)} | {
        f"/work/{output_folder(stage)}": "rw",
        "/tmp": "rw",
    }


def test_it_sees_its_own_files_alone(stage: str, probed: dict[str, dict[str, Any]]) -> None:
    """Of the project a stage sees its inputs, which it cannot change, and its outputs, which it can."""
    assert probed[stage]["files"] == dict.fromkeys(inputs(stage), False) | dict.fromkeys(outputs(stage), True)


def test_it_sees_no_secret_place(stage: str, probed: dict[str, dict[str, Any]]) -> None:
    """Nowhere in a stage's container is there a Docker socket, a .env, a .git or a params.yaml."""
    names = set(probed[stage]["names"])
    assert {"python", "passwd"} <= names, "the probe has not looked around"
    assert not names & {"docker.sock", ".env", ".git", ".dvc", "params.yaml", "dvc.yaml"}


def test_it_has_the_declared_variables_alone(stage: str, probed: dict[str, dict[str, Any]]) -> None:
    """A stage's environment holds its image's variables, those that its block names, and the host's name."""
    command = STAGES[stage]["cmd"][-1]
    image = re.search(r"stages/[\w-]+:\w+", command)[0]
    inspected = ["docker", "image", "inspect", "--format", "{{json .Config.Env}}", image]
    of_the_image = {line.partition("=")[0] for line in json.loads(subprocess.check_output(inspected))}
    named = set(re.findall(r"--env (\w+)", command))
    found = set(probed[stage]["environment"])
    assert found - of_the_image - named == {"HOSTNAME"}
    assert not found & {"RUNNER_SOCKET", "CLONE", "DAGSHUB_TOKEN", "AWS_SECRET_ACCESS_KEY"}


def test_it_is_off_the_network(stage: str, probed: dict[str, dict[str, Any]]) -> None:
    """A stage has no network interface but its own loopback and no route, unless it is the one that publishes."""
    found = probed[stage]
    online = bool(found["routes"]) or found["interfaces"] != ["lo"]
    assert online == (stage in ONLINE), (found["interfaces"], found["routes"])


REACH = """
import json, socket
def reached(address):
    try:
        socket.create_connection((address, 5000), timeout=5).close()
    except OSError:
        return False
    return True
print("REACHED", json.dumps([address for address in {addresses} if reached(address)]))
"""


@pytest.fixture(scope="module")
def reached(started: tuple[Clone, Make]) -> dict[str, set[str]]:
    """By stage, which of this machine's addresses answered it: the clone's MLflow server, one on another network, the
    host's on both networks."""
    clone = started[0]
    server = ["docker", "run", "--rm", "--detach", "--label", clone.label, os.environ["RUNNER_IMAGE"]]
    server += ["python", "-m", "http.server", "5000"]
    other = subprocess.check_output(server, text=True).strip()
    try:
        (mlflow,) = clone.docker("container", "ls", "--quiet", "--filter", "label=com.docker.compose.service=mlflow")
        format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}}{{end}}"
        names = dict.fromkeys(["mlflow", "host", "other", "host by the other"])
        found = subprocess.check_output(["docker", "inspect", "--format", format, mlflow, other], text=True).split()
        code = REACH.replace("{addresses}", json.dumps(found))
        typed = "\n".join(with_probe(stage["cmd"][-1], code) for stage in STAGES.values())
        printed = clone.make("shell", stdin=typed).stdout
    finally:
        subprocess.run(["docker", "kill", other], stdout=subprocess.DEVNULL)
    name_of = dict(zip(found, names, strict=True))
    lines = [json.loads(line.removeprefix("REACHED ")) for line in printed.splitlines() if line.startswith("REACHED ")]
    return {stage: {name_of[address] for address in line} for stage, line in zip(STAGES, lines, strict=True)}


def test_it_reaches_no_container_and_no_host(stage: str, reached: dict[str, set[str]]) -> None:
    """A stage reaches neither a container of the project nor the host; the one that publishes reaches MLflow alone."""
    assert reached[stage] == ({"mlflow"} if stage in ONLINE else set())
