"""`make push` and `make pull`, to a folder and to S3, against `cp -r` and an S3 client."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.clones import Clone, Shell
from benchmarks.measure import Record, Sample
from benchmarks.pipelines import Work
from scripts.pipeline import build

S3 = {
    "DVC_REMOTE_URL": "s3://bench/dvc",
    "AWS_ENDPOINT_URL": "http://s3:5000",
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "s3,mlflow",
    "no_proxy": "s3,mlflow",
}
CLIENT = "python benchmarks/s3/client.py"
DATA = Work("files").out


@contextmanager
def s3_server(clone: Clone) -> Iterator[None]:
    """An S3 server on the clone's network, by the name of s3."""
    image, name = f"stages/clone-{clone.id}:s3", f"{clone.network}-s3"
    command = ["docker", "buildx", "build", "--builder", "default", "--quiet", "--pull=false", "--tag", image]
    for argument in ("PYTHON_IMAGE", *build.PROXIES):
        command += ["--build-arg", argument]
    command += ["--label", "pipeline.image=s3", str(Path(__file__).parent.parent / "s3")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    run = ["docker", "run", "--detach", "--rm", "--init", "--label", clone.label, "--name", name]
    run += ["--network", clone.network, "--network-alias", "s3", image]
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(["docker", "container", "rm", "--force", name], check=True, stdout=subprocess.DEVNULL)


def timed(call: Callable[[], object]) -> Sample:
    started = time.perf_counter()
    call()
    return {"s": time.perf_counter() - started}


def with_folder(bench: Bench, record: Record, clone: Clone, what: str) -> None:
    """Push and pull with the default remote, a folder, against `cp -r`."""
    remote, data, copy = clone.path / ".local" / "dvc-remote", clone.path / DATA, bench.source.with_name("copied")

    def push() -> Sample:
        shutil.rmtree(remote, ignore_errors=True)
        return clone.make("push")

    def pull() -> Sample:
        clone.forget()
        return clone.make("pull")

    def cp(source: Path, target: Path) -> Sample:
        shutil.rmtree(target, ignore_errors=True)
        return timed(lambda: subprocess.run(["cp", "-r", str(source), str(target)], check=True))

    for verb, ours, theirs in (
        ("push", push, lambda: cp(data, copy)),
        ("pull", pull, lambda: cp(copy, bench.source.with_name("copied-back"))),
    ):
        names = f"{what}, folder: make {verb}", f"{what}, folder: cp -r ({verb})"
        record.alternate(dict(zip(names, (ours, theirs), strict=True)), bench.repetitions)
        record.ratio(*names)


def with_s3(record: Record, clone: Clone, shell: Shell, what: str, times: int) -> None:
    """Push and pull with an S3 server, against the S3 client."""

    def push() -> Sample:
        shell.run(f"{CLIENT} empty bench")
        return clone.make("push", **S3)

    def put() -> Sample:
        shell.run(f"{CLIENT} empty bench")
        return shell.run(f"{CLIENT} put {DATA} bench copy")

    def pull() -> Sample:
        clone.forget()
        return clone.make("pull", **S3)

    def get() -> Sample:
        shutil.rmtree(clone.path / ".local" / "got", ignore_errors=True)
        return shell.run(f"{CLIENT} get .local/got bench copy")

    for verb, ours, theirs in (("push", push, put), ("pull", pull, get)):
        if verb == "pull":  # both are there
            push()
            shell.run(f"{CLIENT} put {DATA} bench copy")
        names = f"{what}, S3: make {verb}", f"{what}, S3: client ({verb})"
        record.alternate(dict(zip(names, (ours, theirs), strict=True)), times)
        record.ratio(*names)


def compare(bench: Bench, record: Record) -> None:
    big = {"files": 1, "size": bench.size(1_000_000_000, 1_000_000)}
    many = {"files": bench.size(5000, 20), "size": 10_000}
    for does, times in ((big, bench.size(3, 1)), (many, bench.repetitions)):
        what = f"{does['files']:,} x {does['size']:,} bytes"
        clone = bench.synthetic([Work("files", does=does)])
        clone.make("run", STAGE_MEMORY="1g")
        with_folder(bench, record, clone, what)
        with s3_server(clone), clone.shell(**S3) as shell:
            with_s3(record, clone, shell, what, times)
    ratio = record.ratios[f"{what}, S3: make push / {what}, S3: client (push)"]
    record.at_most(f"push of {many['files']:,} files to S3, ratio to the S3 client", ratio, 2)
    record.notes.append(
        "Whole times of make, with its start and the run-cache; cp and the client run in a container that is running. "
        "The large file goes to S3 and back three times. The S3 server is moto; the client is "
        "s3transfer with the concurrency of aws s3 cp."
    )
