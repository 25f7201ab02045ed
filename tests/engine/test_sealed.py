"""What a stage's container can see and do: what its block declares, and nothing else.

Each `docker run` of dvc.yaml is typed as it stands into `make shell`; in the container a probe looks around instead of
the stage. What `docker inspect` shows is of the containers of real runs.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import STAGES, Clone, inspecting, owner_of, stage_in, with_probe

pytestmark = pytest.mark.docker

FirstRun = tuple[Clone, list[dict[str, Any]]]
Found = dict[str, dict[str, Any]]
"""By stage."""

LIMITS = "STAGE_MEMORY=640m\nSTAGE_CPUS=0.75\nSTAGE_PIDS=96\nTRAIN_MEMORY=768m\nTRAIN_CPUS=1\nTRAIN_PIDS=128\n"
EXPECTED_LIMITS = {name: {"memory": 640 << 20, "cpus": 0.75, "pids": 96} for name in STAGES}
EXPECTED_LIMITS["train"] = {"memory": 768 << 20, "cpus": 1, "pids": 128}
SECRETS = {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": "sekrit", "AWS_SECRET_ACCESS_KEY": "sekrit"}

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
def first_run(clone_at: Callable[[str], Clone]) -> FirstRun:
    """The clone of this module, and what `docker inspect` showed of the containers of its first run.

    The run had a server's user and password, which a local server does not look at, and a bucket's secret.
    """
    clone = clone_at("sealed")
    with inspecting(clone) as containers:
        clone.make("run", **SECRETS)
    return clone, containers


@pytest.fixture(scope="module")
def blocks(first_run: FirstRun) -> Found:
    """The blocks of dvc.yaml, by stage."""
    return first_run[0].stages()


@pytest.fixture(scope="module")
def probed(first_run: FirstRun, blocks: Found) -> Iterator[Found]:
    """What the probe found in the container of each stage, with limits that .env sets."""
    clone = first_run[0]
    dotenv = clone.path / ".env"
    before = dotenv.read_text()
    dotenv.write_text(LIMITS)
    typed = "\n".join(with_probe(block["cmd"], PROBE) for block in blocks.values())
    printed = clone.make("shell", stdin=typed, **SECRETS).stdout
    dotenv.write_text(before)
    found = [json.loads(line.removeprefix("PROBE ")) for line in printed.splitlines() if line.startswith("PROBE ")]
    assert len(found) == len(blocks), printed
    yield dict(zip(blocks, found, strict=True))


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest) -> str:
    """Each stage of dvc.yaml in turn."""
    return request.param


def outputs(block: dict[str, Any]) -> list[str]:
    return [path for kind in ("outs", "metrics", "plots") for output in block.get(kind, []) for path in output]


def output_folder(block: dict[str, Any]) -> str:
    (folder,) = {str(Path(path).parent) for path in outputs(block)}
    return folder


# --- what a probe finds


def test_it_runs_as_the_owner_of_the_clone(stage: str, probed: Found, first_run: FirstRun) -> None:
    """A stage has the uid and the gid of the clone's owner, and no other group."""
    uid, gid = owner_of(first_run[0].path)
    assert probed[stage]["user"] == [uid, gid]
    assert set(probed[stage]["groups"]) <= {gid}


def test_it_has_no_capabilities_and_gains_none(stage: str, probed: Found) -> None:
    """A stage's capability sets are all empty, and no program that it starts can have more."""
    status = probed[stage]["status"]
    sets = {name: int(value, 16) for name, value in status.items() if name.startswith("Cap")}
    assert {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} <= sets.keys()
    assert not any(sets.values())
    assert status["NoNewPrivs"] == "1"


def test_it_has_the_limits_of_dotenv(stage: str, probed: Found) -> None:
    """The kernel holds a stage to the memory, the processors and the processes that .env names for it."""
    assert probed[stage]["limits"] == EXPECTED_LIMITS[stage]


def test_it_can_write_its_output_folder_and_tmp_alone(stage: str, probed: Found, blocks: Found) -> None:
    """A stage can write its output folder and /tmp, and no other folder (/dev, which is in memory, aside)."""
    writable = {path for path in probed[stage]["writable"] if not re.match(r"/dev(/|$)", path)}
    assert writable == {f"/work/{output_folder(blocks[stage])}", "/tmp"}
    mounts = probed[stage]["mounts"]
    assert mounts["/"] == "ro"


def test_it_has_the_declared_mounts_alone(stage: str, probed: Found, blocks: Found) -> None:
    """Mounted are a stage's inputs, read-only, its output folder and /tmp, besides what every container has."""
    every = r"/|/(proc|sys|dev)(/.*)?|/etc/(hosts|hostname|resolv\.conf)|/s?bin/docker-init|/usr/s?bin/docker-init"
    mounts = {path: mode for path, mode in probed[stage]["mounts"].items() if not re.fullmatch(every, path)}
    assert mounts == {f"/work/{path}": "ro" for path in blocks[stage].get("deps", [])} | {
        f"/work/{output_folder(blocks[stage])}": "rw",
        "/tmp": "rw",
    }


def test_it_sees_its_own_files_alone(stage: str, probed: Found, blocks: Found) -> None:
    """Of the project a stage sees its inputs, which it cannot change; its output folder is empty."""
    assert probed[stage]["files"] == dict.fromkeys(blocks[stage].get("deps", []), False)


def test_it_sees_no_secret_place(stage: str, probed: Found) -> None:
    """Nowhere in a stage's container is there a Docker socket, a .env, a .git or a params.yaml."""
    names = set(probed[stage]["names"])
    assert {"python", "passwd"} <= names, "the probe has not looked around"
    assert not names & {"docker.sock", ".env", ".git", ".dvc", "params.yaml", "dvc.yaml"}


def test_it_has_the_declared_variables_alone(stage: str, probed: Found, blocks: Found) -> None:
    """A stage's environment has its image's variables, those that its block names, and the host's name."""
    command = blocks[stage]["cmd"][1]
    image = re.search(r"stages/[\w-]+:\w+", command)[0]
    inspected = ["docker", "image", "inspect", "--format", "{{json .Config.Env}}", image]
    of_the_image = {line.partition("=")[0] for line in json.loads(subprocess.check_output(inspected))}
    named = set(re.findall(r"--env (\w+)", command))
    found = set(probed[stage]["environment"])
    assert found - of_the_image - named == {"HOSTNAME"}
    assert not found & {"RUNNER_SOCKET", "CLONE", "DAGSHUB_TOKEN", "MLFLOW_TRACKING_URI", *SECRETS}


def test_it_is_off_the_network(stage: str, probed: Found) -> None:
    """A stage has no network interface but its own loopback, and no route."""
    assert (probed[stage]["interfaces"], probed[stage]["routes"]) == (["lo"], [])


# --- what it reaches

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
ON_MLFLOWS_NETWORK = "a stage on MLflow's network"


@pytest.fixture(scope="module")
def reached(first_run: FirstRun, blocks: Found) -> dict[str, set[str]]:
    """By stage, which of this machine's addresses answered it: the clone's MLflow server, one on another network, the
    host's on both networks. Also of train as it is with `network="mlflow"` in its block."""
    clone = first_run[0]
    server = ["docker", "run", "--rm", "--detach", "--label", clone.label, os.environ["RUNNER_IMAGE"]]
    server += ["python", "-m", "http.server", "5000"]
    other = subprocess.check_output(server, text=True).strip()
    commands = {name: block["cmd"] for name, block in blocks.items()}
    commands[ON_MLFLOWS_NETWORK] = on_mlflows_network(clone)["train"]["cmd"]
    try:
        (mlflow,) = clone.docker("container", "ls", "--quiet", "--filter", "label=com.docker.compose.service=mlflow")
        format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}}{{end}}"
        names = dict.fromkeys(["mlflow", "host", "other", "host by the other"])
        found = subprocess.check_output(["docker", "inspect", "--format", format, mlflow, other], text=True).split()
        code = REACH.replace("{addresses}", json.dumps(found))
        printed = clone.make("shell", stdin="\n".join(with_probe(each, code) for each in commands.values())).stdout
    finally:
        subprocess.run(["docker", "kill", other], stdout=subprocess.DEVNULL)
    name_of = dict(zip(found, names, strict=True))
    lines = [json.loads(line.removeprefix("REACHED ")) for line in printed.splitlines() if line.startswith("REACHED ")]
    return {name: {name_of[address] for address in line} for name, line in zip(commands, lines, strict=True)}


def on_mlflows_network(clone: Clone) -> Found:
    """Return the blocks of dvc.yaml as they are if train asks for MLflow's network; the clone stays as it was."""
    clone.edit("dvc.yaml.template", 'stage("train",', 'stage("train", network="mlflow",')
    clone.make("setup-dvc")
    found = clone.stages()
    clone.git("checkout", "--quiet", "dvc.yaml", "dvc.yaml.template")
    return found


def test_it_reaches_no_container_and_no_host(stage: str, reached: dict[str, set[str]]) -> None:
    """A stage reaches neither a container of the project nor the host."""
    assert reached[stage] == set()


def test_a_stage_on_mlflows_network_reaches_mlflow_alone(reached: dict[str, set[str]]) -> None:
    """A stage whose block asks for MLflow's network reaches the clone's MLflow server, and nothing else."""
    assert reached[ON_MLFLOWS_NETWORK] == {"mlflow"}


# --- what `docker inspect` shows


def assert_sealed(container: dict[str, Any], folder: str) -> None:
    """Check that a container has no network, no secret, and nothing to write but what is mounted as `folder`."""
    config, host = container["Config"], container["HostConfig"]
    assert host["NetworkMode"] == "none"
    variables = {line.partition("=")[0] for line in config["Env"]}
    assert not [name for name in variables if re.search("MLFLOW|DAGSHUB|AWS|TOKEN|PASSWORD|SECRET|DOCKER", name)]
    assert "sekrit" not in json.dumps(container)
    assert {mount["Destination"] for mount in container["Mounts"] if mount["RW"]} == {f"/work/{folder}"}
    assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["Privileged"]
    assert not [mount for mount in container["Mounts"] if "docker.sock" in mount["Source"]]


def test_docker_inspect_shows_it(stage: str, first_run: FirstRun, blocks: Found) -> None:
    """In a real run a stage's container has no network, no variable of MLflow or a token, and read-only inputs."""
    containers = [each for each in first_run[1] if stage_in(each) == stage]
    assert containers
    for container in containers:
        assert_sealed(container, output_folder(blocks[stage]))


# --- a model of the registry, measured by the scorer


class Again:
    """A run that makes a new version: what decided on it, and the containers that were started."""

    def __init__(self, clone: Clone) -> None:
        with inspecting(clone) as self.containers:
            clone.make("run", **SECRETS)
        self.champion, *_, self.version = clone.registry()

    @property
    def record(self) -> dict[str, Any]:
        """The record of the decision on the new version."""
        return json.loads(self.version["tags"]["decision_record"])

    @property
    def measurements(self) -> list[dict[str, Any]]:
        """The containers that were given a model of the registry."""
        return [each for each in self.containers if any("/.local/score/" in m["Source"] for m in each["Mounts"])]


def measured_by_hand(clone: Clone, version: dict[str, Any]) -> float:
    """Return the accuracy that the command of dvc.yaml finds for a version's model on the test data there now."""
    file = f"MlflowClient().download_artifacts('{version['run_id']}', '{version['tags']['model_file']}')"
    clone.python(f"import shutil\nfrom mlflow import MlflowClient\nshutil.move({file}, 'models/model.json')")
    clone.make("shell", stdin="\n".join(["set -e", *clone.stages()["evaluate"]["cmd"]]))
    return json.loads((clone.path / "metrics/metrics.json").read_text())["accuracy"]


@pytest.fixture
def clone(first_run: FirstRun) -> Iterator[Clone]:
    """The clone of this module, its files put back after the test."""
    clone = first_run[0]
    yield clone
    clone.restore()


def test_a_score_that_counts_is_not_measured_again(clone: Clone) -> None:
    """By the same scorer on the same data, the score in the registry decides; no container is started for it."""
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 101")
    again = Again(clone)
    assert (again.record["champion"], again.record["champion_score"]) == (1, 0.9)
    assert again.measurements == []


@pytest.mark.deep
def test_with_another_scorer_the_champion_is_measured_again(clone: Clone, blocks: Found) -> None:
    """After an edit of the scorer its new image, sealed, measures production's model, and that decides.

    By the new scorer all models have half of their faults. The champion's old score would let a model win that is no
    better.
    """
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 102")
    right = 'sum(pairs[label, label] for label in model["classes"]) / len(truth)'
    clone.edit("stages/evaluate/evaluate.py", f'"accuracy": {right}', f'"accuracy": ({right} + 1) / 2')
    again = Again(clone)
    (container,) = again.measurements
    assert stage_in(container) == "evaluate"
    assert container["Config"]["Image"] == again.version["tags"]["scorer_image"]
    assert container["Config"]["Image"] != again.champion["tags"]["scorer_image"]
    assert_sealed(container, output_folder(blocks["evaluate"]))
    assert (again.record["champion_score"], again.record["score"]) == (0.95, 0.95)
    assert again.version["tags"]["reason"] == "not better than production: its accuracy 0.95 against 0.95 of version 1"
    assert not (clone.path / ".local" / "score").exists()


def test_with_other_test_data_the_champion_is_measured_again(clone: Clone, blocks: Found) -> None:
    """After a change of the test data the scorer's container, sealed, measures production's model, and that decides.

    On the new data all models are right. The champion's old score would let a model win that is no better.
    """
    clone.edit("params.yaml", "seed: 3 ", "seed: 6 ")
    again = Again(clone)
    (container,) = again.measurements
    assert stage_in(container) == "evaluate"
    assert_sealed(container, output_folder(blocks["evaluate"]))
    assert again.record["champion_score"] == measured_by_hand(clone, again.champion) == 1.0
    assert again.version["tags"]["reason"] == "not better than production: its accuracy 1 against 1 of version 1"
    assert not (clone.path / ".local" / "score").exists()
