"""What the report of a run costs it: `make run` with the room scripts/report/, against a clone without it."""

import json
import shutil
import statistics
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks import pipelines
from benchmarks.bench import Bench
from benchmarks.clones import Clone
from benchmarks.measure import Record, Sample
from benchmarks.pipelines import Work

ROOM = "scripts/report"
WITH, WITHOUT, OWN = "with reports", "without", "the room's own time"
FOUND = ".local/room.json"
BEFORE = "import time as _time\n\n_BEGAN = _time.perf_counter(), _time.process_time()\n"
AFTER = f'''

class _Clock:
    """Sums up the seconds, and those of the processor, of all calls of the room and of its import."""

    def __init__(self, *of):
        self._took = [0, 0]
        self._add(*_BEGAN)
        self._room = self._timed(Recorder, *of)

    def _add(self, began, used):
        self._took[0] += _time.perf_counter() - began
        self._took[1] += _time.process_time() - used

    def _timed(self, call, *arguments, **values):
        began = _time.perf_counter(), _time.process_time()
        try:
            return call(*arguments, **values)
        finally:
            self._add(*began)
            Path("{FOUND}").write_text(json.dumps(self._took))

    def __getattr__(self, name):
        return lambda *arguments, **values: self._timed(getattr(self._room, name), *arguments, **values)


listen = _Clock
'''


def compare(bench: Bench, record: Record) -> None:
    if not (bench.source / ROOM).is_dir():
        record.notes.append(f"{ROOM}/ is not there: nothing is measured.")
        return
    works = pipelines.chain(bench.size(10, 2))
    ours, plain = _clones(bench, works)
    for what, run, times, limit in (("nothing to do", _again, 15, 0.05), ("all stages", _full, 7, 0.3)):
        own = f"{what}, the room's own time"
        sides = {f"{what}, {WITH}": partial(_timed, run, ours, record, own), f"{what}, {WITHOUT}": partial(run, plain)}
        record.alternate(sides, bench.size(times, 1))
        pairs = zip(*(record.measured[name, "s"].values for name in sides), strict=True)
        more = statistics.median(both[0] - both[1] for both in pairs)
        record.at_most(f"{what}: a report's time, in s", more, limit)
        record.at_most(f"{what}: the room's own time, in s", record.median(own), limit)
    record.notes.append(
        f"{len(works)} stages. A report's time is the median of the differences of two runs, one right after the "
        "other: the start and the end of each container is in it. The room's own time is that of all calls of its "
        "listener within a run."
    )


def _clones(bench: Bench, works: Sequence[Work]) -> tuple[Clone, Clone]:
    """Return a clone whose room tells how long it took, and one without the room; both have run."""
    ours, plain = bench.synthetic(works), Clone.of(bench.source, "without", STAGE_MEMORY="128m")
    shutil.rmtree(plain.path / ROOM)
    pipelines.install(plain, works)
    listener = ours.path / ROOM / "listener.py"
    listener.write_text(BEFORE + listener.read_text() + AFTER)
    for clone in (ours, plain):
        clone.commit("as it is measured")
        clone.make("run")
    return ours, plain


def _again(clone: Clone) -> Sample:
    return clone.make("run")


def _full(clone: Clone) -> Sample:
    clone.forget_below(pipelines.MADE)
    return clone.make("run")


def _timed(run: Callable[[Clone], Sample], clone: Clone, record: Record, own: str) -> Sample:
    """Return what a run took; add to the record how long the room did, and its processor."""
    whole = run(clone)
    seconds, of_processor = json.loads((clone.path / FOUND).read_text())
    record.add(own, seconds)
    record.add(f"{own}, of the processor", of_processor)
    return whole
