"""Reports of runs on the real engine."""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from docker import DockerClient

from tests.conftest import Clone, last_line, wait_until
from tests.report.schema import faults

pytestmark = [pytest.mark.docker, pytest.mark.deep]


@pytest.fixture(scope="module")
def clone(clone_at) -> Clone:
    return clone_at("reports")


def run_json(clone: Clone) -> dict[str, Any]:
    found = json.loads(clone.make("report", "JSON=1").stdout)
    assert list(faults(found)) == []
    return found


@contextmanager
def watching(clone: Clone) -> Iterator[dict[tuple[str, str], float]]:
    """Collect when the engine says that each stage's container did what: by stage and action, in seconds since 1970.

    It is asked at once: of what has been, an engine keeps the last 256 events alone.
    """
    client, found = DockerClient.from_env(), {}
    events = client.events(decode=True, filters={"event": ["start", "die"], "label": [clone.label, "pipeline.stage"]})

    def follow() -> None:
        for event in events:
            found[event["Actor"]["Attributes"]["pipeline.stage"], event["Action"]] = event["timeNano"] / 1e9

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield found
    finally:
        events.close()
        thread.join()
        client.close()


def test_a_run_a_failure_and_a_kill(clone: Clone) -> None:
    """A run has a report whose parts are the stage's time; so has one that fails; one that is killed shows what it had
    noted; a run with nothing to do leaves none; and a room that fails fails no run."""
    with watching(clone) as engine:
        first = clone.make("run")
    page = clone.path / re.search(r"^report +(\S+)$", first.stdout, re.M)[1]
    assert page.as_uri() == last_line(clone.make("report")) and len(page.read_bytes()) < 300_000
    run = run_json(clone)
    assert run["outcome"] == "well" and {stage["result"] for stage in run["stages"]} == {"ran"}
    for stage in run["stages"]:
        parts, spans = stage["parts"], stage["spans"]
        assert spans[-1]["to"] - spans[0]["from"] == pytest.approx(sum(parts.values()), abs=0.01)
        began = next(span["from"] for span in spans if span["part"] == "cache")  # DVC's first look
        printed = float(re.search(rf"^{stage['name']} +ran \(([\d.]+) s\)$", first.stdout, re.M)[1])
        assert spans[-1]["to"] - began == pytest.approx(printed, abs=0.06)  # it is rounded
        ran = engine[stage["name"], "die"] - engine[stage["name"], "start"]
        assert 0 < parts["run"] <= ran + 0.01  # less, if it had started early
        assert stage["why"] == ["it is new"]
    assert max(stage["memory"]["peak"] or 0 for stage in run["stages"]) > 1_000_000
    (model,) = run["models"]
    assert model["stage"] == "Production" and model["evidence"]["score"] == model["score"] and model["run"]

    clone.make("run")
    assert run_json(clone)["id"] == run["id"]

    clone.edit("params.yaml", "seed: 58", "seed: 59")
    failed = clone.make("run", check=False, TRAIN_TIMEOUT="0.01")
    run = run_json(clone)
    assert failed.returncode and run["outcome"] == "failed" and run["error"] in last_line(failed)
    assert run["stages"][2]["result"] == "failed" and run["stages"][3]["result"] == "not run"

    environ = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": clone.path}
    with subprocess.Popen(["make", "run"], **environ) as going:
        runs = clone.path / ".local" / "runs"
        wait_until(
            lambda: any("container starts" in path.read_text() for path in runs.glob("*/events.jsonl")), "a start"
        )
        (runner,) = clone.docker("container", "ls", "--quiet", "--filter", "label=pipeline.verb=run")
        subprocess.run(["docker", "kill", runner], check=True, capture_output=True)
        going.wait()
    assert run_json(clone)["outcome"] == "killed"
    assert re.findall(r"^run \S+ +\((\w+),", clone.make("log").stdout, re.M) == ["killed", "failed", "well"]

    (clone.path / "scripts" / "report" / "page.py").write_text("raise RuntimeError('no page')\n")
    done = clone.make("run")
    assert done.stdout.count("note: scripts/report/ follows this run no longer (RuntimeError: no page)") == 1


def test_branches(clone_at) -> None:
    """The first line of a branch's Markdown says that its model is worse, or better, or that a stage of it breaks."""
    clone = clone_at("branches")
    clone.make("run")
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "the base", "--allow-empty")

    def first() -> str:
        said = clone.make("report", "BASE=HEAD", "MD=1").stdout
        text = (clone.path / ".local" / "branch" / "report.md").read_text()
        assert text in said
        return text.splitlines()[0]

    assert first().startswith("**unchanged**")
    for depth, word in (("2", "worse"), ("1", "better")):
        clone.restore()
        clone.edit("params.yaml", "max_depth: null", f"max_depth: {depth}")
        assert first().startswith("**not run**: train, evaluate would run")
        clone.make("run")
        assert first().startswith(f"**{word}**: iris\\-classifier: its accuracy is ")
        text = (clone.path / ".local" / "branch" / "report.md").read_text()
        assert r"| train | parameter train\.max\_depth: null" in text and "### The gate" in text
        for picture in re.findall(r"\]\((plots/[^)]+)\)", text):
            assert (clone.path / ".local" / "branch" / picture).read_bytes().startswith(b"\x89PNG")
    clone.restore()
    clone.edit("stages/train/train.py", "def main", "raise RuntimeError('broken')\n\n\ndef main")
    clone.make("run", check=False)
    assert first().startswith("**breaks**: train: ")
