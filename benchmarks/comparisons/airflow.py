"""Airflow's second worker against its first alone, and its own time a task against `make run` (BEYOND.md)."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import pipelines
from benchmarks.bench import Bench
from benchmarks.clones import Clone
from benchmarks.measure import Record, Sample

ONE, TWO = "{}, one worker", "{}, two workers"
PORTS = {"airflow-broker": 6379, "airflow-api": 8080}


def address() -> str:
    """Return an address of this machine that only its containers reach: the worker of another clone is one of them."""
    gateway = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    return subprocess.run(gateway, capture_output=True, text=True, check=True).stdout.strip()


def settle(clone: Clone, **settings: str) -> None:
    """Write the clone's .env: a task has no other settings."""
    (clone.path / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))


@contextmanager
def within_reach(clone: Clone, network: str) -> Iterator[str]:
    """Let a worker on another clone's network reach the first one's Airflow; yield the lines of its .env.

    It could not by the address: Docker's firewall lets no network of an engine through to the ports of another one.
    """
    lines = (clone.path / ".local" / "airflow" / "worker.env").read_text()
    containers = []
    for service, port in PORTS.items():
        listing = ["docker", "container", "ls", "--quiet", "--filter", f"label={clone.label}"]
        listing += ["--filter", f"label=com.docker.compose.service={service}"]
        containers.append(subprocess.run(listing, capture_output=True, text=True, check=True).stdout.strip())
        connect = ["docker", "network", "connect", "--alias", f"first-{service}", network, containers[-1]]
        subprocess.run(connect, check=True)
        lines = lines.replace(f"{address()}:{port}", f"first-{service}:{port}")
    yield lines
    for container in containers:
        subprocess.run(["docker", "network", "disconnect", network, container], check=True)


@contextmanager
def second_worker(clone: Clone, **settings: str) -> Iterator[None]:
    """A second clone on this machine whose worker joins the first one's Airflow, as another machine's would."""
    second = Clone.of(clone.path, "second", **clone.settings)
    settle(second, **settings)
    second.make("build")  # and its network
    with within_reach(clone, second.network) as lines:
        settle(second, **settings, **dict(line.split("=", 1) for line in lines.splitlines()))
        second.make("airflow-worker")
        yield
        second.make("down")
    second.make("clean-all", YES="1")
    shutil.rmtree(second.path)


def compare(bench: Bench, record: Record) -> None:
    if not (bench.source / "scripts" / "airflow").exists():
        record.notes.append("There is no scripts/airflow here.")
        return
    count, seconds = bench.size(8, 2), bench.size(20.0, 0.1)
    what = f"{count} stages of {seconds:g} s"
    remote = bench.source.with_name("remote")
    remote.mkdir()
    clone = bench.synthetic(pipelines.independent(count, seconds=seconds))
    common = {"DVC_REMOTE_URL": str(remote), "JOBS": "1", "STAGE_MEMORY": "128m"}

    def from_nothing(*command: str) -> Sample:
        clone.forget(lock=True)
        shutil.rmtree(remote)
        remote.mkdir()
        return clone.make(*command)

    settle(clone, **common, AIRFLOW_ADDRESS=address())
    clone.make("airflow")
    for _ in range(bench.size(2, 1)):
        record.add(ONE.format(what), from_nothing("airflow-run", "WAIT=1")["s"])
        with second_worker(clone, **common):
            record.add(TWO.format(what), from_nothing("airflow-run", "WAIT=1")["s"])
    faster = record.ratio(ONE.format(what), TWO.format(what))
    record.at_least(f"{what}, two workers, times faster than one", faster, 1.7)

    length = bench.size(5, 2)
    clone = bench.synthetic(pipelines.chain(length))
    sides = {
        f"chain of {length}, Airflow": lambda: from_nothing("airflow-run", "WAIT=1"),
        f"chain of {length}, make run": lambda: from_nothing("run"),
    }
    record.alternate(sides, bench.size(3, 1))
    by_airflow, by_make = (record.median(name) for name in sides)
    tasks = length + 3  # the model's two stages, and publishing
    record.add("Airflow's and its clone's own, a task", (by_airflow - by_make) / tasks)
    clone.make("down")
    record.notes.append(
        "Each worker runs one stage at a time (JOBS=1); both are on this machine, in a clone each. Whole times of make "
        "airflow-run WAIT=1, publishing included, with an empty remote; two runs a side, and three of the chain."
    )
