"""What DVC and a container of its own cost a stage, above the program that runs in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import pipelines
from benchmarks.bench import Bench
from benchmarks.clones import Clone, Shell, uid
from benchmarks.measure import Record, Sample
from benchmarks.pipelines import Work
from scripts.pipeline import images

RUN, NOTHING, PLAIN = "make run, chain", "make run, nothing to do", "the same as plain processes"


@contextmanager
def container(clone: Clone, folder: Path) -> Iterator[Shell]:
    """A shell in a container of the stages' image, which sees `folder` as /work."""
    image = images.load(clone.path / "stages")[pipelines.MODEL].tag
    command = ["docker", "run", "--rm", "--init", "--interactive", "--label", clone.label, "--user", uid()]
    command += ["--mount", f"type=bind,src={folder},dst=/work", "--entrypoint", "sh", image]
    with Shell.of(command, folder, clone.environ()) as shell:
        yield shell


def command(work: Work) -> str:
    """What the stage's container runs, with its folder made before, as in dvc.yaml."""
    inputs = " ".join(f"--in_{number} {Work(name).out}" for number, name in enumerate(work.needs))
    return f"mkdir -p {Path(work.out).parent} && python /app/work.py {inputs} --out {work.out} --value 0"


def compare(bench: Bench, record: Record) -> None:
    works = pipelines.chain(bench.size(10, 2))
    clone, folder = bench.synthetic(works), bench.source.with_name("overhead")
    folder.mkdir()
    clone.make("run")

    def full() -> Sample:
        clone.forget_below(pipelines.MADE)
        return clone.make("run")

    with container(clone, folder) as shell:

        def plain() -> Sample:
            shutil.rmtree(folder / "data", ignore_errors=True)
            return {"s": sum(shell.run(command(work))["s"] for work in works)}

        record.alternate({RUN: full, NOTHING: lambda: clone.make("run"), PLAIN: plain}, bench.repetitions)
    each = (record.median(RUN) - record.median(NOTHING) - record.median(PLAIN)) / len(works)
    record.at_most("overhead of a stage, in s", each, 0.6)
    record.notes.append(
        f"({RUN} - {NOTHING} - {PLAIN}) / {len(works)} stages, by medians: DVC's bookkeeping and cache, the start and "
        "the end of a container, above a Python program of the standard library, started in a container that runs."
    )
