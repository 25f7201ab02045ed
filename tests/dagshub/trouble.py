"""What can be broken between a clone and the stand-in, and what must hold for each verb of make then and afterwards."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import pytest

from tests.conftest import NOTHING, Clone, Make, stages_line
from tests.dagshub.stand_in import READ_ONLY, TOKEN, StandIn, configure, contents

BOUND = 300  # seconds: a minute's patience with the servers, and what make takes by itself on a very busy machine
EVERYWHERE = ("site", "mlflow", "s3")


class Fault(NamedTuple):
    """What is broken, and what make says of it: the words of run, push and pull (None: they work all the same).

    `doctor` maps each of its lines that must be BAD to the words in it; "error" is the one line on a wrong .env.
    """

    name: str
    run: str | None
    push: str | None
    pull: str | None
    doctor: Mapping[str, str]
    settings: Mapping[str, str] = {}  # of .env, that are wrong
    what: str = ""  # the fault of the servers that nginx.conf knows
    services: tuple[str, ...] = EVERYWHERE
    kinds: tuple[str, ...] = ("read", "write")

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def cases(faults: Sequence[Fault], *, by_default: Sequence[str]) -> list[Any]:
    """Return the faults as parameters of a test; those that are not named are for `make test-deep`."""
    return [
        pytest.param(fault, id=str(fault), marks=[] if fault.name in by_default else pytest.mark.deep)
        for fault in faults
    ]


def everywhere(words: str) -> dict[str, str]:
    """Return doctor's lines if all of DagsHub has one fault."""
    return {"DagsHub": words, "MLflow": words, "remote": words}


class Troubled(NamedTuple):
    """A clone with a model that is worse than the one in production on DagsHub, and two clones beside it.

    A clone each, so that verbs that wait for their servers do not wait for each other as well.
    """

    running: Clone
    pushing: Clone  # with the same data
    pulling: Clone  # with none
    stand_in: StandIn

    def forget(self) -> None:
        """Leave nothing but the champion there: no candidate, no data; and no data in the clone that pulls."""
        for version in self.stand_in.versions():
            if version["version"] != "1":
                self.stand_in.forget(version)
        self.stand_in.empty_bucket()
        shutil.rmtree(self.pulling.path / ".dvc" / "cache", ignore_errors=True)

    def configure(self, **settings: str) -> None:
        """Write the three lines into .env of all clones."""
        for clone in (self.running, self.pushing, self.pulling):
            configure(clone, **settings)

    @contextmanager
    def broken(self, fault: Fault) -> Iterator[None]:
        """Break what `fault` says until the block ends."""
        self.configure(**fault.settings)
        servers = self.stand_in.fault(fault.what, fault.services, fault.kinds) if fault.what else nullcontext()
        try:
            with servers:
                yield
        finally:
            self.configure()


def is_reported_and_costs_nothing(troubled: Troubled, fault: Fault) -> None:
    """Check that each verb ends with one sentence under a fault, and completes its work without training afterwards."""
    troubled.forget()
    with troubled.broken(fault), ThreadPoolExecutor() as pool:
        verbs = ((troubled.running, "run"), (troubled.pushing, "push"), (troubled.pulling, "doctor", "pull"))
        (run,), (push,), (doctor, pull) = pool.map(_make_each, verbs)
        stages = troubled.stand_in.stages()
    for done, words in ((run, fault.run), (push, fault.push), (pull, fault.pull)):
        _check(done, words)
    _check_doctor(doctor, fault.doctor)
    if fault.run:
        assert stages == {"1": "Production"}, stages
    _check_completion(troubled, published_before=not fault.run)


def _make_each(order: tuple[Clone, *tuple[str, ...]]) -> list[Make]:
    clone, *verbs = order
    done = [clone.make(verb, check=False, timeout=BOUND) for verb in verbs]
    for made in done:
        print(made.stdout)
        assert not any(secret in made.stdout for secret in ("Traceback", TOKEN, READ_ONLY))
    return done


def _check(done: Make, words: str | None) -> None:
    """Check that make ended well or, with `words`, in one sentence that has them."""
    lines = done.stdout.strip().splitlines()
    if words is None:
        assert done.returncode == 0, done.stdout
    else:
        assert done.returncode == 2 and lines[-1].startswith("make: ***"), done.stdout
        assert lines[-2].startswith("error: ") and words in lines[-2], done.stdout
        assert [line for line in lines if "error" in line.lower()] == lines[-2:], done.stdout


def _check_doctor(done: Make, expected: Mapping[str, str]) -> None:
    """Check that doctor's BAD lines are those that are expected, and no others."""
    if "error" in expected:
        _check(done, expected["error"])
        return
    bad = {line.split()[1]: line for line in done.stdout.splitlines() if line.startswith("BAD ")}
    assert done.returncode == (2 if expected else 0), done.stdout
    assert bad.keys() == expected.keys() and all(expected[name] in bad[name] for name in bad), done.stdout


def _check_completion(troubled: Troubled, *, published_before: bool) -> None:
    """Check that run, push and pull complete the work now that nothing is broken, and run no stage."""
    stand_in, wanted = troubled.stand_in, contents(troubled.running)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(troubled.running.make, "run")
        troubled.pushing.make("push")
        troubled.pulling.make("pull")
        run = running.result()
    assert stages_line(run) == NOTHING, run.stdout
    assert ("published before" if published_before else "published now") in run.stdout, run.stdout
    stages = stand_in.stages()
    assert stages["1"] == "Production" and sorted(stages.values()) == ["Production", "Staging"], stages
    assert set(wanted) <= set(stand_in.pushed()[0])
    cache = troubled.pulling.path / ".dvc" / "cache" / "files" / "md5"
    assert [digest for digest in wanted if not (cache / digest[:2] / digest[2:]).exists()] == []
