"""The model in use, on the engine: whole files, and a server that follows production."""

import csv
import json
import math
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.project import ROOT
from tests.browser.image import browser_image
from tests.conftest import Clone, Make, inspecting, last_line, wait_until

pytestmark = pytest.mark.docker
FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")
ASK = """
import json, sys, urllib.error, urllib.request
for line in sys.stdin:
    path, body = json.loads(line)
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request("http://127.0.0.1:8080" + path, data, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            print(json.dumps([answer.status, dict(answer.headers), answer.read().decode()]))
    except urllib.error.HTTPError as error:
        print(json.dumps([error.code, dict(error.headers), error.read().decode()]))
"""
LOAD = """
import http.client, json, sys, threading, time
body, end, lock = sys.argv[1], threading.Event(), threading.Lock()
seen, failed = [], []
def ask():
    connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=30)
    while not end.is_set():
        began = time.time()
        try:
            connection.request("POST", "/invocations", body, {"content-type": "application/json"})
            answer = connection.getresponse()
            text, version = answer.read(), answer.headers["x-model-version"]
        except Exception as error:
            with lock:
                failed.append(repr(error))
            connection.close()
            continue
        with lock:
            if answer.status != 200:
                failed.append(text.decode())
            seen.append((began, version))
threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads:
    thread.start()
sys.stdin.read()
end.set()
for thread in threads:
    thread.join()
print(json.dumps([seen, failed]))
"""


def names(clone: Clone, service: str) -> list[str]:
    """Return the running containers of a service of this room."""
    return clone.docker("ps", "--filter", f"label=com.docker.compose.service={service}", "--format", "{{.Names}}")


@dataclass(frozen=True)
class Running:
    """A server that `make serve` has started, asked from the container that has its port."""

    clone: Clone
    process: subprocess.Popen[str]
    lines: list[str]

    def door(self) -> str:
        (name,) = names(self.clone, "serving-door")
        return name

    def ask(self, path: str, body: Any = None) -> tuple[int, dict[str, str], Any]:
        done = subprocess.run(
            ["docker", "exec", "--interactive", self.door(), "python3", "-c", ASK],
            input=json.dumps([path, body]) + "\n", capture_output=True, text=True, check=True,
        )  # fmt: skip
        status, headers, text = json.loads(done.stdout)
        headers = {name.lower(): value for name, value in headers.items()}
        return status, headers, json.loads(text) if text[:1] in "{[" else text

    def version(self) -> int | None:
        return self.ask("/version")[2]["version"]

    def megabytes(self) -> float:
        """Return how much memory the server uses."""
        return float(re.search(r"(?m)^process_resident_memory_bytes (\S+)", self.ask("/metrics")[2])[1]) / 1e6


@contextmanager
def serving(clone: Clone, *words: str, **variables: str) -> Iterator[Running]:
    """`make serve` within the block."""
    process = subprocess.Popen(
        ["make", "serve", *words], cwd=clone.path, env=os.environ | variables, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    lines: list[str] = []
    try:
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C stops it" in line:
                break
        assert lines and "Ctrl-C stops it" in lines[-1], "".join(lines)
        yield Running(clone, process, lines)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        lines += process.communicate(timeout=60)[0].splitlines(keepends=True)
    assert clone.docker("ps", "--all", "--filter", "label=pipeline.serving", "--format", "{{.Names}}") == []


def rows(clone: Clone) -> list[dict[str, str]]:
    with (clone.path / "data/processed/test.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def measured(clone: Clone) -> list[str]:
    """Return what `evaluate` has predicted for each row of the test set."""
    with (clone.path / "metrics/confusion.csv").open(newline="") as file:
        return [row["predicted"] for row in csv.DictReader(file)]


def told_to_type() -> list[list[str]]:
    """Return the words of the commands with which SERVING.md begins."""
    block = (ROOT / "SERVING.md").read_text().split("```")[1]
    return [line.split() for line in re.findall(r"(?m)^\$ make (.*?) *#", block)]


def test_a_file(started: tuple[Clone, Make]) -> None:
    """From `make run` to a prediction, as SERVING.md begins: each row stays as it is, with the prediction that
    `evaluate` measured, the version and its hash beside it."""
    clone, _ = started
    run, predict, serve = told_to_type()
    assert (run, serve) == (["run"], ["serve"])  # which `started` and `serving` call
    shutil.copy(clone.path / "data/processed/test.csv", clone.path / "data/new.csv")
    done = clone.make(*predict)
    said = clone.path / "data/new.predictions.csv"
    try:
        with said.open(newline="") as file:
            found = list(csv.DictReader(file))
        given = (clone.path / "data/processed/test.csv").read_text().splitlines()
        lines = said.read_text().splitlines()
        assert all(line.startswith(f"{before},") for line, before in zip(lines, given, strict=True))
        assert [row["prediction"] for row in found] == measured(clone)
        facts = json.loads(said.with_name(f"{said.name}.json").read_text())
        (version,) = (each for each in clone.registry() if each["stage"] == "Production")
        number = version["version"]
        assert (str(facts["version"]), facts["sha256"]) == (number, version["tags"]["model_sha256"])
        assert {(row["model_version"], row["model_sha256"]) for row in found} == {(number, facts["sha256"][:12])}
        assert last_line(done).startswith(f"data/new.predictions.csv: 30 rows by iris-classifier version {number}")
    finally:
        for path in clone.path.glob("data/new*"):
            path.unlink()
    assert last_line(clone.make("predict", "IN=params.yaml", check=False)).startswith(
        "error: params.yaml ends in .yaml"
    )


def test_a_server(started: tuple[Clone, Make]) -> None:
    """It answers what `evaluate` measured; its container has no network and no rights; Ctrl-C removes all of it."""
    clone, _ = started
    with inspecting(clone) as found, serving(clone) as running:
        wait_until(lambda: running.ask("/ping")[0] == 200, "the server is ready")
        columns = {name: [float(row[name]) for row in rows(clone)] for name in FEATURES}
        status, headers, answer = running.ask("/invocations", {"inputs": columns})
        assert (status, headers["x-model-version"], answer["predictions"]) == (200, "1", measured(clone))
        status, _, answer = running.ask("/invocations", {"inputs": columns | {"petal_width": ["wide"] * 30}})
        assert (status, answer["message"]) == (400, 'row 1, column "petal_width": "wide"; expected a number')
        status, _, document = running.ask("/openapi.json")
        example = document["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]["examples"]
        assert running.ask("/invocations", example["inputs"]["value"])[0] == 200
    servers = [c for c in found if c["Config"]["Labels"].get("com.docker.compose.service") == "serving"]
    for host in (each["HostConfig"] for each in servers):
        assert host["NetworkMode"] == "none" and host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"]
        assert not host["PortBindings"] and host["Memory"] == 1 << 30
    assert servers and not [e for c in servers for e in c["Config"]["Env"] if re.match("MLFLOW|AWS|DAGSHUB", e)]


WRITE = "import pandas; pandas.read_csv('data/new.csv').to_parquet('data/new.parquet', row_group_size=7)"
READ = """
import json, pandas
given, found = (pandas.read_parquet(f"data/new{kind}.parquet") for kind in ("", ".predictions"))
print(json.dumps([given.equals(found[[*given]]), found["prediction"].tolist()]))
"""


@pytest.mark.deep
def test_a_file_of_parquet(started: tuple[Clone, Make]) -> None:
    """Parquet keeps its columns, and gets the prediction that `evaluate` measured, in an image that has a library."""
    clone, _ = started
    folder = clone.path / "data"
    image = f"stages/clone-{clone.label.partition('=')[2]}:parquet.evaluate"
    command = ["docker", "run", "--rm", "--network", "none", "--user", f"{os.getuid()}:{os.getgid()}"]
    command += ["--mount", f"type=bind,src={folder},dst=/work/data", "--entrypoint", "python", image, "-c"]
    shutil.copy(folder / "processed/test.csv", folder / "new.csv")
    (folder / "new.parquet").write_bytes(b"PAR1")
    try:
        refused = clone.make("predict", "IN=data/new.parquet", check=False)  # and the image is built
        assert "new.parquet: the file is no Parquet" in last_line(refused)
        subprocess.run([*command, WRITE], check=True)
        clone.make("predict", "IN=data/new.parquet")
        read = subprocess.run([*command, READ], check=True, capture_output=True, text=True)
        assert json.loads(read.stdout) == [True, measured(clone)]
    finally:
        for path in folder.glob("new*"):
            path.unlink()


LOOK = {"url": "http://127.0.0.1:8080/docs#/default/post_invocations", "texts": ["iris-classifier", "dataframe_split"]}


@pytest.mark.deep
def test_the_page_in_a_browser(started: tuple[Clone, Make]) -> None:
    """The page shows the route with its example in a real browser that reaches nothing else; there is a screenshot."""
    clone, _ = started
    folder = Path(os.environ["TEST_OUTPUT"], "the-api-page")
    folder.mkdir(parents=True, exist_ok=True)
    with serving(clone) as running, browser_image(clone) as browser:
        command = ["docker", "run", "--rm", "--interactive", "--network", f"container:{running.door()}"]
        command += ["--user", f"{os.getuid()}:{os.getgid()}", "--mount", f"type=bind,src={folder},dst={folder}"]
        done = subprocess.run(
            [*command, browser, str(folder)],
            input=json.dumps({"page": LOOK}),
            check=True,
            capture_output=True,
            text=True,
        )
    shown = json.loads(done.stdout)["page"]["text"]
    assert all(text in shown for text in (*LOOK["texts"], "/invocations", "sepal_length", "/ping", "/metrics")), shown


@pytest.mark.deep
def test_promotions_under_load(clone_at: Callable[[str], Clone]) -> None:
    """Twenty promotions while four clients ask on: no request fails, none is answered by a version that was not in
    production within the ten seconds before it, and the server's memory does not grow."""
    clone = clone_at("promotions")
    clone.make("run")
    clone.edit("params.yaml", "n_estimators: 100", "n_estimators: 101")
    clone.make("run")
    body = json.dumps({"dataframe_records": [{name: float(rows(clone)[0][name]) for name in FEATURES}]})
    with serving(clone) as running:
        wait_until(lambda: running.version() is not None, "a version serves")
        terms = [[str(running.version()), 0.0, math.inf]]  # which version was in production, from when to when
        with subprocess.Popen(
            ["docker", "exec", "--interactive", running.door(), "python3", "-c", LOAD, body],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as load:  # fmt: skip
            used = []
            for turn in range(20):
                wanted = 2 if running.version() == 1 else 1
                terms.append([str(wanted), time.time(), math.inf])  # it may be, as soon as the command has begun
                clone.make("promote", f"VERSION={wanted}")
                terms[-2][2] = time.time()  # it is no longer, at the latest when the command has ended
                wait_until(lambda wanted=wanted: running.version() == wanted, f"turn {turn}")
                used.append(running.megabytes())
            seen, failed = json.loads(load.communicate("")[0])
    assert failed == [] and {version for _, version in seen} == {"1", "2"}
    assert [
        (at, version)
        for at, version in seen
        if not any(version == which and begun <= at <= ended + 10 for which, begun, ended in terms)
    ] == []
    assert max(used[10:]) < 1.1 * max(used[:10]), used


@pytest.mark.deep
def test_a_version_that_cannot_serve(clone_at: Callable[[str], Clone]) -> None:
    """A version that fails its trial, one whose file in the registry was changed, a registry that dies: the version
    that serves goes on, and the server says why; what is mended serves."""
    clone = clone_at("cannot-serve")
    refusing = '    if len(model["voters"]) == 101:\n        raise ValueError("one too many")\n    shares ='
    clone.edit("stages/evaluate/predict.py", "    shares =", refusing)
    for voters in (100, 101, 102):
        clone.edit("params.yaml", f"n_estimators: {max(100, voters - 1)}", f"n_estimators: {voters}")
        clone.make("run")
    clone.make("promote", "VERSION=1")
    with serving(clone) as running:

        def told() -> dict[str, Any]:
            return running.ask("/version")[2]

        wait_until(lambda: running.version() == 1, "version 1 serves")
        clone.make("promote", "VERSION=2")
        wait_until(lambda: told()["refused"], "version 2 is refused")
        assert "version 2 failed on the sample (one too many)" in told()["refused"]["current"]

        run = clone.registry()[2]["run_id"]
        (file,) = clone.path.glob(f".local/mlflow/artifacts/*/{run}/artifacts/model/model.json")
        whole = file.read_bytes()
        file.write_bytes(whole.replace(b"0", b"1", 1))
        clone.make("promote", "VERSION=3")
        wait_until(lambda: not told()["registry"]["ok"], "version 3 is refused")
        assert "is not the one that was published" in told()["registry"]["why"] and told()["version"] == 1
        file.write_bytes(whole)
        wait_until(lambda: running.version() == 3, "version 3 serves")
        assert told()["refused"] == {}

        subprocess.run(["docker", "kill", *names(clone, "mlflow")], check=True, capture_output=True)
        wait_until(lambda: not told()["registry"]["ok"], "the registry is missed")
        assert "did not answer" in told()["registry"]["why"]
        assert running.ask("/ping")[2] == {"status": "serving", "version": 3}
        clone.make("ui")
        wait_until(lambda: told()["registry"]["ok"], "the registry is back")
    assert any("version 2 failed on the sample (one too many): what serves stays" in line for line in running.lines)


@pytest.mark.deep
def test_a_registry_that_is_away(clone_at: Callable[[str], Clone]) -> None:
    """A server that is started without a registry serves what served last; one that is killed has a successor."""
    clone = clone_at("registry-away")
    clone.make("run")
    with serving(clone) as running:
        wait_until(lambda: running.version() == 1, "version 1 serves")
        wait_until(lambda: (clone.path / ".local/serving/iris-classifier/good.json").exists(), "it is remembered")
    nowhere = {"MLFLOW_TRACKING_URI": "http://registry.invalid:5000"}
    with serving(clone, **nowhere) as running:
        wait_until(lambda: running.version() == 1, "version 1 serves without a registry")
        assert running.ask("/version")[2]["registry"]["ok"] is False
        (server,) = names(clone, "serving")
        subprocess.run(["docker", "kill", server], check=True, capture_output=True)
        assert running.ask("/ping")[0] == 200  # it waits at the door
    assert any("another one takes its place" in line for line in running.lines)


@pytest.mark.deep
def test_an_image_of_its_own(started: tuple[Clone, Make]) -> None:
    """`make model-image` makes an image that answers without a registry and without a clone."""
    clone, _ = started
    printed = clone.make("model-image").stdout
    name = re.search(r"^(iris-classifier:1-[0-9a-f]{12}): ", printed, re.M)[1]
    options = ["--label", clone.label, "--read-only", "--tmpfs", "/tmp", "--network", "none", "--detach"]
    done = subprocess.run(["docker", "run", *options, name], capture_output=True, text=True, check=True)
    started_as = done.stdout.strip()
    columns = {name: [float(row[name]) for row in rows(clone)] for name in FEATURES}
    command = ["docker", "exec", "--interactive", started_as, "python3", "-c", ASK]

    def answer() -> Any:
        line = json.dumps(["/invocations", {"inputs": columns}]) + "\n"
        done = subprocess.run(command, input=line, capture_output=True, text=True)
        return json.loads(json.loads(done.stdout)[2])["predictions"] if done.returncode == 0 else None

    try:
        wait_until(answer, "it answers")
        assert answer() == measured(clone)
    finally:
        subprocess.run(["docker", "rm", "--force", started_as], check=True, capture_output=True)
        subprocess.run(["docker", "image", "rm", "--force", name], check=True, capture_output=True)
