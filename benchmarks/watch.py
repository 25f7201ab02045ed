"""How long the containers of a clone run, and how much memory they take."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import docker

from benchmarks.clones import pipe
from benchmarks.measure import Sample

RUNNER = "runner"
SETTLING = 0.2  # seconds in which the engine's last events have come


@dataclass
class Seen:
    """What was seen of a clone's containers, by id: what each is (a stage's name, or RUNNER), its seconds, its MB.

    Seconds are there of those that started and ended meanwhile.
    """

    names: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)

    def of(self, name: str) -> Sample:
        """Seconds and MB of the last container of that name; without what could not be seen."""
        found = [container for container, its in self.names.items() if its == name][-1:]
        units = {"s": self.seconds, "MB": self.memory}
        return {unit: values[container] for container in found for unit, values in units.items() if container in values}


@contextmanager
def watching(label: str) -> Iterator[Seen]:
    """Watches what starts in a clone while the block runs; the memory is there when that has ended."""
    seen = Seen()
    with _listening(label, seen), _memory(label, seen):
        yield seen


def running(label: str) -> list[str]:
    """The ids of a clone's runners that run now."""
    filters = {"label": [label, f"pipeline.role={RUNNER}"]}
    return [container["Id"] for container in docker.APIClient().containers(filters=filters)]


@contextmanager
def _listening(label: str, seen: Seen) -> Iterator[None]:
    # As they come: of what is over the engine remembers the last 256 events of all containers.
    events = docker.APIClient().events(filters={"label": label, "event": ["start", "die"]}, decode=True)
    thread = threading.Thread(target=_note, args=(events, seen), daemon=True)
    thread.start()
    try:
        yield
        time.sleep(SETTLING)
    finally:
        events.close()
        thread.join()


def _note(events: Iterator[Mapping], seen: Seen) -> None:
    started: dict[str, int] = {}
    for event in events:
        container, labels = event["Actor"]["ID"], event["Actor"]["Attributes"]
        if event["Action"] == "start":
            started[container] = event["timeNano"]
            seen.names[container] = labels.get("pipeline.stage") or labels.get("pipeline.role", "")
        elif container in started:
            seen.seconds[container] = (event["timeNano"] - started[container]) / 1e9


@contextmanager
def _memory(label: str, seen: Seen) -> Iterator[None]:
    command = ["docker", "run", "--rm", "--interactive", "--network", "none", "--label", label]
    command += ["--mount", "type=bind,src=/sys/fs/cgroup,dst=/cgroup,readonly", os.environ["RUNNER_IMAGE"]]
    command += ["python", "-c", (Path(__file__).parent / "cgroups.py").read_text()]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        pipe(process.stdout).readline()  # it is ready
        yield
        pipe(process.stdin).close()
        seen.memory |= {container: most / 1e6 for container, most in json.load(pipe(process.stdout)).items()}
