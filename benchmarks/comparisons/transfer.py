"""`make push` and `make pull`, to a folder and to S3, against `cp -r` and an S3 client."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.clones import KEPT, Clone, Shell
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


def clear(bench: Bench, *folders: Path) -> None:
    """Take folders away: those of many files into another one, which is deleted when all is measured.

    ext4 without a journal makes a file the slower, up to twenty times, the more files were deleted in the last minutes.
    """
    aside = bench.source.with_name("aside")
    aside.mkdir(exist_ok=True)
    for folder in folders:
        if sum(len(files) for _, _, files in folder.walk()) > 100:
            folder.rename(aside / str(time.time_ns()))
        else:
            shutil.rmtree(folder, ignore_errors=True)


def forget(bench: Bench, clone: Clone) -> None:
    """Take all that a clone has of former runs away but dvc.lock."""
    clear(bench, *(clone.path / name for name in KEPT))


def timed(call: Callable[[], object]) -> Sample:
    started = time.perf_counter()
    call()
    return {"s": time.perf_counter() - started}


def with_folder(bench: Bench, record: Record, clone: Clone, what: str) -> dict[str, float]:
    """Push and pull with the default remote, a folder, against `cp`, each until all is on the disk; the ratios."""
    remote, data, copy = clone.path / ".local" / "dvc-remote", clone.path / DATA, bench.source.with_name("copied")

    def make(verb: str) -> Sample:
        return timed(lambda: (clone.make(verb), on_disk(clone.path)))

    def push() -> Sample:
        clear(bench, remote)
        on_disk(clone.path)
        return make("push")

    def pull() -> Sample:
        forget(bench, clone)
        on_disk(clone.path)
        return make("pull")

    def cp(source: Path, target: Path) -> Sample:
        clear(bench, target)
        on_disk(clone.path)
        command = ["cp", "-r", "--reflink=never", str(source), str(target)]
        return timed(lambda: (subprocess.run(command, check=True), on_disk(target)))

    found = {}
    for verb, ours, theirs in (
        ("push", push, lambda: cp(data, copy)),
        ("pull", pull, lambda: cp(copy, bench.source.with_name("copied-back"))),
    ):
        names = f"{what}, folder: make {verb}", f"{what}, folder: cp ({verb})"
        record.alternate(dict(zip(names, (ours, theirs), strict=True)), bench.repetitions)
        found[verb] = record.ratio(*names)
    return found


def on_disk(folder: Path) -> None:
    """Wait until all that was written to the file system of `folder` is on its disk."""
    subprocess.run(["sync", "--file-system", str(folder)], check=True)


def with_s3(bench: Bench, record: Record, clone: Clone, shell: Shell, what: str) -> dict[str, float]:
    """Push and pull with an S3 server, against the S3 client; the ratios.

    A third side of pull does what else a pull promises: the hash of each file, and a second copy of it.
    """
    got = ".local/got"

    def push() -> Sample:
        shell.run(f"{CLIENT} empty bench")
        return clone.make("push", **S3)

    def put() -> Sample:
        shell.run(f"{CLIENT} empty bench")
        return shell.run(f"{CLIENT} put {DATA} bench copy")

    def pull() -> Sample:
        forget(bench, clone)
        return clone.make("pull", **S3)

    def get(then: str = "true") -> Sample:
        clear(bench, clone.path / got, clone.path / f"{got}-copy")
        return shell.run(f"{CLIENT} get {got} bench copy && {then}")

    def get_check_and_copy() -> Sample:
        return get(f"find {got} -type f -exec md5sum {{}} + > /dev/null && cp -r {got} {got}-copy")

    client = {verb: f"{what}, S3: client ({verb})" for verb in ("push", "pull")}
    ours = {verb: f"{what}, S3: make {verb}" for verb in ("push", "pull")}
    record.alternate({ours["push"]: push, client["push"]: put}, bench.repetitions)
    push()
    shell.run(f"{CLIENT} put {DATA} bench copy")  # both are there
    whole = f"{what}, S3: client, md5sum and cp (pull)"
    record.alternate({ours["pull"]: pull, client["pull"]: get, whole: get_check_and_copy}, bench.repetitions)
    record.ratio(ours["pull"], whole)
    return {verb: record.ratio(ours[verb], client[verb]) for verb in client}


def compare(bench: Bench, record: Record) -> None:
    big = {"files": 1, "size": bench.size(1_000_000_000, 30_000_000)}  # in parts, also the small one
    many = {"files": bench.size(5000, 20), "size": 10_000}
    for does, limits in ((big, {"push": 1.4, "pull": 1.2}), (many, {"push": 1.0, "pull": 1.0})):
        what = f"{does['files']:,} x {does['size']:,} bytes"
        clone = bench.synthetic([Work("files", does=does)])
        clone.make("run", STAGE_MEMORY="1g")
        folder = with_folder(bench, record, clone, what)
        with s3_server(clone), clone.shell(**S3) as shell:
            s3 = with_s3(bench, record, clone, shell, what)
        for verb, limit in limits.items():
            record.at_most(f"{verb} of {what}, S3: ratio to the client", s3[verb], limit)
            record.at_most(f"{verb} of {what}, folder: ratio to cp and sync", folder[verb], 2)
    record.notes.append(
        "Whole times of make, with its start and the run-cache; cp and the client run in a container that is running. "
        "Neither make nor cp flushes what it wrote: for a folder, the time of each ends with a sync of the file "
        "system, and one before it leaves nothing of before to be written. What has many files is moved away, and not "
        "deleted, between two sides. Pull also hashes what it fetched from S3, and copies it from DVC's cache into the "
        "working tree. The S3 server is moto, which keeps the object that was "
        "read last; the client is s3transfer with the concurrency of aws s3 cp."
    )
