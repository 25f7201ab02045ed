"""The model in use (SERVING.md) against what one has without it: `mlflow models serve`, and a loop over a table."""

import csv
import json
import os
import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import docker

from benchmarks.bench import Bench
from benchmarks.clones import Clone
from benchmarks.measure import Record, Sample
from scripts.pipeline import build

HERE = Path(__file__).parent.parent / "serving"
OURS, MLFLOWS = "our server", "mlflow models serve"
PREDICT, LOOP = "make predict", "a loop over pandas' chunks"
ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
BODY = json.dumps({"dataframe_records": [ROW]})
MEGA = 1e6
WRITTEN_BY_HAND = """
import sys
from pathlib import Path
import pandas as pd
import predict
model = predict.load(Path(sys.argv[1]))
for number, chunk in enumerate(pd.read_csv(sys.argv[2], chunksize=50_000)):
    rows = chunk.reset_index(drop=True)
    said = predict.predict(model, rows[list(model.feature_names_in_)])
    pd.concat([rows, said], axis=1).to_csv(sys.argv[3], mode="a", header=not number, index=False)
"""


class Server(NamedTuple):
    """A server's image, and what else it takes to start it."""

    image: str
    options: Sequence[str] = ()


class Running(NamedTuple):
    """A server's container."""

    id: str

    def python(self, *words: str) -> str:
        """Run load.py in it, and return what that prints."""
        command = ["docker", "exec", "--interactive", self.id, "python3", "-c", (HERE / "load.py").read_text(), *words]
        return subprocess.run(command, input=BODY, capture_output=True, text=True, check=True).stdout

    def stats(self) -> dict[str, Any]:
        return docker.APIClient().stats(self.id, stream=False, one_shot=True)

    def megabytes(self) -> float:
        """The memory that stands for no file, of all its processes."""
        values = self.stats()["memory_stats"]["stats"]
        return values.get("total_rss", values.get("anon", 0)) / MEGA

    def seconds(self) -> float:
        """The processor time that it has used."""
        return self.stats()["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9


@contextmanager
def running(clone: Clone, server: Server) -> Iterator[Running]:
    command = ["docker", "run", "--detach", "--rm", "--init", "--network", "none", "--label", clone.label]
    done = subprocess.run([*command, *server.options, server.image], capture_output=True, text=True, check=True)
    try:
        yield Running(done.stdout.strip())
    finally:
        subprocess.run(["docker", "rm", "--force", done.stdout.strip()], check=True, stdout=subprocess.DEVNULL)


def ours(clone: Clone) -> Server:
    """The image of server and model that `make model-image` makes."""
    done = subprocess.run(["make", "model-image"], cwd=clone.path, env=clone.environ(), capture_output=True, text=True)
    return Server(re.search(r"(?m)^(\S+): .* version \d+$", done.stdout)[1])


def mlflows(clone: Clone) -> Server:
    """An image of MLflow and of the packages that the version asks for; the model is mounted."""
    (folder,) = {path.parent for path in clone.path.glob(".local/mlflow/artifacts/*/*/artifacts/model/MLmodel")}
    version = re.search(r"(?m)^mlflow==\S+", (clone.path / "scripts/requirements.txt").read_text())[0]
    context = clone.path / ".local" / "bench-mlflow"
    shutil.copytree(HERE, context)
    shutil.copy(folder / "requirements.txt", context)
    image = f"stages/clone-{clone.id}:mlflow-serving"
    command = ["docker", "buildx", "build", "--builder", "default", "--quiet", "--pull=false", "--tag", image]
    for argument in ("PYTHON_IMAGE", "RUNNER_IMAGE", *build.PROXIES):
        command += ["--build-arg", argument]
    command += ["--build-arg", f"MLFLOW={version}", "--label", "pipeline.image=mlflow-serving", str(context)]
    with build.package_index() as options:
        subprocess.run([*command[:-1], *options, command[-1]], check=True, stdout=subprocess.DEVNULL)
    mount = f"type=bind,src={folder},dst=/model,readonly"
    return Server(image, ["--mount", mount, "--user", f"{os.getuid()}:{os.getgid()}", "--tmpfs", "/tmp"])


def timed(call: Callable[[], object]) -> Sample:
    began = time.perf_counter()
    call()
    return {"s": time.perf_counter() - began}


def starting(clone: Clone, server: Server) -> Sample:
    """From the start of the container to the first answer."""
    began = time.perf_counter()
    with running(clone, server) as found:
        found.python("1", "0")
        return {"s": time.perf_counter() - began}


def asking(found: Running, clients: int, seconds: float) -> Sample:
    """Answers a second, their times, and the processor time that the server needs for each."""
    before = found.seconds()
    told = json.loads(found.python(str(clients), str(seconds)))
    used = found.seconds() - before
    if told["failed"]:
        raise ValueError(f"{told['failed']} of {told['answered']} requests failed")
    answered = told["answered"]
    return {"1/s": answered / seconds, "p99 ms": told["p99"], "1/s of processor time": answered / used}


def servers(bench: Bench, record: Record, clone: Clone) -> None:
    both = {OURS: ours(clone), MLFLOWS: mlflows(clone)}
    starts = {f"{name}: start": lambda server=server: starting(clone, server) for name, server in both.items()}
    record.alternate(starts, bench.repetitions)
    for name, server in both.items():
        record.add(f"{name}: image", docker.from_env().images.get(server.image).attrs["Size"] / MEGA, "MB")
    with running(clone, both[OURS]) as one, running(clone, both[MLFLOWS]) as other:
        sides = {OURS: one, MLFLOWS: other}
        for found in sides.values():
            found.python("1", "0")
        for clients in (1, 8):
            calls = {
                f"{name}: {clients} clients": lambda found=found, clients=clients: asking(
                    found, clients, bench.size(5.0, 0.2)
                )
                for name, found in sides.items()
            }
            record.alternate(calls, bench.repetitions)
        for name, found in sides.items():
            record.add(f"{name}: memory", found.megabytes(), "MB")
    record.at_most("start to the first answer, in s", record.median(f"{OURS}: start"), 2)
    for clients in (1, 8):
        names = [f"{name}: {clients} clients" for name in both]
        record.at_least(f"single rows, {clients} clients, ratio to MLflow", record.ratio(*names, "1/s"), 3)
    for what, most in (("image", 0.5), ("memory", 0.7)):
        record.at_most(f"{what}, ratio to MLflow", record.ratio(*(f"{name}: {what}" for name in both), "MB"), most)


def write_table(path: Path, rows: int) -> None:
    """Write numbers that look like the example's, with one decimal."""
    draw = random.Random(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*ROW, "species"])
        writer.writerows([*(round(draw.uniform(0.1, 8), 1) for _ in ROW), "setosa"] for _ in range(rows))


def files(bench: Bench, record: Record, clone: Clone) -> None:
    """Rows a second, without the time that each side takes for a table of a few rows."""
    rows, few = bench.size(2_000_000, 100_000), 10
    source, said = clone.path / "data" / "new.csv", clone.path / "data" / "new.predictions.csv"
    (model,) = clone.path.glob(".local/serving/*/models/*/model.*")
    scorer = re.search(r"stages/evaluate:\w+", (clone.path / "dvc.yaml").read_text())[0]
    command = ["docker", "run", "--rm", "--network", "none", "--user", f"{os.getuid()}:{os.getgid()}"]
    command += ["--label", clone.label, "--entrypoint", "python3", "--memory", "1g"]
    for path in (source.parent, model.parent):
        command += ["--mount", f"type=bind,src={path},dst={path}"]
    command += [scorer, "-c", WRITTEN_BY_HAND, str(model), str(source), str(said)]
    sides = {
        PREDICT: lambda: clone.make("predict", "IN=data/new.csv"),
        LOOP: lambda: timed(lambda: subprocess.run(command, check=True)),
    }

    def speed(run: Callable[[], Sample]) -> Sample:
        seconds = []
        for count in (few, rows):
            write_table(source, count)
            for path in source.parent.glob("new.predictions*"):
                path.unlink()
            seconds.append(run()["s"])
        return {"rows/s": (rows - few) / (seconds[1] - seconds[0])}

    record.alternate({name: lambda run=run: speed(run) for name, run in sides.items()}, bench.size(3, 1))
    record.at_least(f"{rows:,} rows, rows a second, ratio to the loop", record.ratio(PREDICT, LOOP, "rows/s"), 1)


def compare(bench: Bench, record: Record) -> None:
    if not (bench.source / "scripts" / "serving").exists():
        record.notes.append("There is no scripts/serving here.")
        return
    clone = bench.project
    servers(bench, record, clone)
    files(bench, record, clone)
    record.notes.append(
        "Both servers have the example's forest of 100 trees, no network, and their clients in their own container, on "
        "connections that are kept open; a request has one row. MLflow's image is Python's with MLflow and what the "
        "version asks for. The loop writes what make predict does but version and hash. The time of ten rows is not in "
        "the rows a second."
    )
