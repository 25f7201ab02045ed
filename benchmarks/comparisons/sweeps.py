"""What a trial of a sweep costs (`make sweep`), above its stage: as a bare container, and as a plain program."""

import shlex
import shutil
from functools import partial

import yaml

from benchmarks.bench import Bench
from benchmarks.clones import Clone, Shell
from benchmarks.comparisons import overhead
from benchmarks.measure import Record, Sample
from benchmarks.pipelines import Work
from scripts.yaml12 import load_yaml

ROOM = "scripts/sweeps"
SECONDS = 0.2
TRIAL = Work("trial", does={"seconds": SECONDS, "value": 0}, measures=True)
BARE, PLAIN = "a trial's bare container", "its plain program"


def sweep_of(trials: int) -> str:
    """Return the text of a sweep.yaml whose trials each make bytes of their own."""
    return yaml.safe_dump(
        {
            "parameters": {f"{TRIAL.name}.value": {"low": 1, "high": trials, "step": 1}},
            "sampler": "grid",
            "objective": {"metric": "score", "goal": "maximize", "file": TRIAL.metrics},
        },
        sort_keys=False,
    )


def commands(clone: Clone) -> str:
    """Return the commands of dvc.yaml for the stage, without that which takes its outputs over."""
    *found, _ = load_yaml((clone.path / "dvc.lock").read_text())["stages"][TRIAL.name]["cmd"]
    return " && ".join(found)


def swept(clone: Clone, jobs: int, trials: int) -> Sample:
    """Run the whole sweep anew; return its seconds, by the number of its trials."""
    for folder in (".local/sweeps", ".dvc/cache"):
        shutil.rmtree(clone.path / folder, ignore_errors=True)
    return {"s": clone.make("sweep", f"JOBS={jobs}")["s"] / trials}


def mean(shell: Shell, command: str, times: int) -> Sample:
    return {"s": sum(shell.run(command)["s"] for _ in range(times)) / times}


def compare(bench: Bench, record: Record) -> None:
    if not (bench.source / ROOM).is_dir():
        record.notes.append(f"{ROOM}/ is not there: nothing is measured.")
        return
    trials, times = bench.size(200, 3), bench.size(50, 2)
    clone = bench.synthetic([TRIAL])
    clone.make("run")
    (clone.path / "sweep.yaml").write_text(sweep_of(trials))
    clone.commit("a sweep")
    one, two = (f"a trial of {trials}, JOBS={jobs}" for jobs in (1, 2))
    plain = f"python /app/work.py --seconds {SECONDS} --out /tmp/out --metrics /tmp/score"
    with clone.shell() as runner, overhead.container(clone, bench.source.parent) as stage:
        sides = {
            one: partial(swept, clone, 1, trials),
            BARE: partial(mean, runner, f"cd {shlex.quote(str(clone.path))} && {commands(clone)}", times),
            two: partial(swept, clone, 2, trials),
            PLAIN: partial(mean, stage, plain, times),
        }
        record.alternate(sides, bench.size(3, 1))
    record.at_most("a trial above its bare container, JOBS=1, in s", record.median(one) - record.median(BARE), 0.6)
    record.at_most("a trial above its plain program, JOBS=2, in s", record.median(two) - record.median(PLAIN), 0.6)
    record.notes.append(
        f"make sweep of {trials} trials of a stage that sleeps {SECONDS} s, divided by their number: its own start, "
        f"the sampler, MLflow and the page are in it. Three times each; a bare container and a plain program are the "
        f"mean of {times} each time."
    )
