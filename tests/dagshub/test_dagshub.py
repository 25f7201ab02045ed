"""Three lines in .env: tracking, registry and data on DagsHub, with its old MLflow and with the current one."""

import base64
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

import pytest
import yaml

from tests.conftest import Clone, Make, stages_line
from tests.dagshub.conftest import ADDRESS, CURRENT, OLD, READ_ONLY, TOKEN, USER, StandIn, configure

pytestmark = pytest.mark.docker

NOTHING = "nothing to run, all stages are up to date"
MINUTE = 60  # seconds
BOTH = ("mlflow", "s3")


def contents(clone: Clone) -> list[str]:
    """The digests of what the stages of dvc.lock made."""
    lock = yaml.safe_load((clone.path / "dvc.lock").read_text())
    return sorted({out["md5"] for stage in lock["stages"].values() for out in stage["outs"]})


def pushed(stand_in: StandIn) -> tuple[list[str], int]:
    """The digests of the data that the bucket holds, and how many entries of the run-cache."""
    keys = stand_in.bucket()
    data = [match[1] + match[2] for key in keys if (match := re.fullmatch(r"files/md5/(..)/(.{30})", key))]
    return sorted(data), sum(key.startswith("runs/") for key in keys)


# --- a fresh clone


class Published(NamedTuple):
    """A fresh clone with the three lines, after `make run push`."""

    clone: Clone
    stand_in: StandIn
    done: Make
    seen: str  # the command lines of its containers and of the processes in them, while it ran


def watched(clone: Clone, *targets: str) -> tuple[Make, str]:
    """`make TARGETS`, and the command lines that Docker and ps show meanwhile."""
    seen = set()
    log = clone.path.parent / f"{clone.path.name}.log"
    with (
        log.open("w") as output,
        subprocess.Popen(["make", *targets], cwd=clone.path, stdout=output, stderr=subprocess.STDOUT) as running,
    ):
        while running.poll() is None:
            for container in clone.docker("container", "ls", "--quiet"):
                for look in (["inspect", "--format", "{{.Path}} {{.Args}}"], ["top"]):
                    shown = subprocess.run(["docker", *look, container], capture_output=True, text=True)
                    seen.add(re.sub(r"\d\d:\d\d:\d\d", "", shown.stdout))
            time.sleep(0.2)
    printed = log.read_text()
    assert running.returncode == 0, printed
    return Make(targets, running.returncode, printed), "\n".join(sorted(seen))


@pytest.fixture(scope="module", params=[CURRENT, OLD], ids=["current-mlflow", "mlflow-2.7.1"])
def published(
    request: pytest.FixtureRequest, clone_at: Callable[[str], Clone], stand_in_for: Callable[[Clone, str], StandIn]
) -> Published:
    """A fresh clone with three lines in .env, after `make run push`, for each MLflow server."""
    clone = clone_at(f"dagshub-{request.param}")
    configure(clone)
    return Published(clone, stand_in_for(clone, request.param), *watched(clone, "run", "push"))


def test_a_fresh_clone_publishes_one_version(published: Published) -> None:
    """`make run push` with three lines in .env registers one version, which is in Production."""
    assert "published now" in published.done.stdout
    assert published.stand_in.stages() == {"1": "Production"}


def test_the_report_points_to_the_models_tab(published: Published) -> None:
    """The report's address is the repository's on DagsHub, not the API's."""
    assert re.search(r"^look at +http://dagshub\.test/team/iris(/|$)", published.done.stdout, re.M)
    assert ".mlflow" not in re.search(r"^look at .*$", published.done.stdout, re.M)[0]


def test_the_published_model_scores_as_metrics_say(published: Published) -> None:
    """The registered version loads with today's client and has the accuracy of metrics.json on the test set."""
    printed = published.clone.python(
        "import mlflow, pandas\n"
        "model = mlflow.pyfunc.load_model('models:/iris-classifier/1')\n"
        "test = pandas.read_csv('data/processed/test.csv')\n"
        "predicted = model.predict(test.drop(columns='species'))\n"
        "print('ACCURACY', (predicted == test['species']).mean())\n"
    )
    metrics = json.loads((published.clone.path / "metrics/metrics.json").read_text())
    assert float(re.search(r"ACCURACY (.*)", printed)[1]) == pytest.approx(metrics["accuracy"], abs=1e-6)


def test_the_bucket_holds_data_and_run_cache(published: Published) -> None:
    """All outputs of dvc.lock are in the bucket, with the run-cache of the four stages."""
    assert pushed(published.stand_in) == (contents(published.clone), 4)


def test_another_clone_pulls_and_runs_nothing(published: Published, clone_at: Callable[[str], Clone]) -> None:
    """A clone at another path with the same .env gets all by `make pull`; its run runs no stage, registers nothing."""
    other = clone_at(f"{published.clone.path.name}-second")
    configure(other)
    published.stand_in.join(other)
    done = other.make("pull", "run")
    assert stages_line(done) == NOTHING
    assert "version 1, published before" in done.stdout
    assert published.stand_in.stages() == {"1": "Production"}


def test_the_token_is_in_env_alone(published: Published) -> None:
    """The token is in .env, and in no output, command line, image or file of the clone beside DVC's config.local."""
    clone = published.clone
    forms = [TOKEN, base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()]
    stages = re.findall(r"stages/[\w-]+:\w+", (clone.path / "dvc.yaml").read_text())
    assert len(stages) == 4 and all(stage in published.seen for stage in stages)
    history = subprocess.check_output(["sh", "-c", 'for i; do docker history --no-trunc "$i"; done', "-", *stages])
    shown = {"output": published.done.stdout, "command lines": published.seen, "images": history.decode()}
    assert [where for where, text in shown.items() for form in forms if form in text] == []
    logs = list((clone.path / ".local" / "logs").iterdir())
    assert logs
    holders = {
        str(path.relative_to(clone.path))
        for path in clone.path.rglob("*")
        if path.is_file() and any(form.encode() in path.read_bytes() for form in forms)
    }
    assert holders - {".dvc/config.local"} == {".env"}
    for secret in (".env", ".dvc/config.local"):
        assert (clone.path / secret).stat().st_mode & 0o777 == 0o600
    assert clone.git("status", "--porcelain", "--", ".env", ".dvc") == ""


# --- from local to DagsHub and back


class Moved(NamedTuple):
    """A clone that ran locally, then got credentials, then a better model, then lost them; what each run printed."""

    clone: Clone
    stand_in: StandIn
    credentials: Make
    first: dict[str, str]  # the stages of the versions there
    better: Make
    second: dict[str, str]
    back: Make


@pytest.fixture(scope="module")
def moved(clone_at: Callable[[str], Clone], stand_in_for: Callable[[Clone, str], StandIn]) -> Moved:
    """A clone on its way from local to DagsHub's old MLflow and back."""
    clone = clone_at("dagshub-moved")
    clone.make("run")
    stand_in = stand_in_for(clone, OLD)
    configure(clone)
    credentials = clone.make("run")
    first = stand_in.stages()
    clone.edit("params.yaml", "max_depth: null", "max_depth: 1")
    better = clone.make("run")
    second = stand_in.stages()
    (clone.path / ".env").write_text("")
    return Moved(clone, stand_in, credentials, first, better, second, clone.make("run"))


def test_credentials_publish_what_is_at_hand(moved: Moved) -> None:
    """After a local run and then credentials, the next run runs no stage and registers one version there."""
    assert stages_line(moved.credentials) == NOTHING
    assert "version 1, published now" in moved.credentials.stdout
    assert moved.first == {"1": "Production"}


def test_a_better_model_takes_the_place_there(moved: Moved) -> None:
    """A better model is promoted there, and the one before it is Archived."""
    assert "better than production" in moved.better.stdout
    assert moved.second == {"1": "Archived", "2": "Production"}


def test_the_way_back_runs_no_stage(moved: Moved) -> None:
    """Without credentials the next run runs no stage, publishes the better model locally and leaves DagsHub alone."""
    assert stages_line(moved.back) == NOTHING
    assert "version 2, published now" in moved.back.stdout
    assert "http://127.0.0.1:" in moved.back.stdout
    assert [version["stage"] for version in moved.clone.registry()] == ["Archived", "Production"]
    assert moved.stand_in.stages() == moved.second


# --- faults


class Fault(NamedTuple):
    """What is broken, and what `make run` and `make push` say of it; None: it is no concern of theirs."""

    name: str
    run: str | None
    push: str | None
    settings: tuple[tuple[str, str], ...] = ()  # of .env, that are wrong
    what: str = ""  # the fault of the servers that nginx.conf knows
    services: tuple[str, ...] = BOTH
    kinds: tuple[str, ...] = ("read", "write")

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


NO_ADDRESS = "404: there is no such address"
FAULTS = [
    Fault("wrong token", "401", "403", settings=(("token", TOKEN[::-1]),)),
    Fault("wrong owner", NO_ADDRESS, "404", settings=(("uri", ADDRESS.replace("team", "nobody")),)),
    Fault("missing repository", NO_ADDRESS, "404", settings=(("uri", ADDRESS.replace("iris", "other")),)),
    Fault("forgotten .mlflow", "expected", "expected", settings=(("uri", ADDRESS.removesuffix(".mlflow")),)),
    Fault("read-only token", "403", "403", settings=(("token", READ_ONLY),)),
    Fault("unknown CA", "certificate", "certificate", settings=(("uri", ADDRESS.replace("http:", "https:")),)),
    Fault("500", "500", "500", what="500"),
    Fault("502", "502", "502", what="502"),
    Fault("429", "429", "429", what="429"),
    Fault("page", "a page and not", "that of an S3 server", what="html"),
    Fault("silence", "no answer in time", "no answer in time", what="hang"),
    Fault("broken off", "broke the connection off", "broke the connection off", what="cut"),
    Fault("429 on writing", "429", "429", what="429", kinds=("write",)),
    Fault("silence on writing", "no answer in time", "no answer in time", what="hang", kinds=("write",)),
    Fault("S3 denying", None, "403", what="denied", services=("s3",)),
    Fault("S3 full", None, "no room left", what="full", services=("s3",), kinds=("write",)),
]


@pytest.fixture(scope="module")
def candidate(moved: Moved) -> Moved:
    """The clone with the worse model at hand, while the better one is in production on DagsHub."""
    configure(moved.clone)
    moved.clone.restore()
    assert stages_line(moved.clone.make("run")) == NOTHING
    moved.clone.make("push")
    return moved


@pytest.fixture
def trouble(candidate: Moved) -> Iterator[Callable[[Fault], AbstractContextManager[None]]]:
    """Breaks what a fault says until the block ends, with nothing but the champion there: no candidate, no data."""
    for version in candidate.stand_in.versions():
        if version["version"] != "2":
            candidate.stand_in.forget(version)
    candidate.stand_in.empty_bucket()

    @contextmanager
    def broken(fault: Fault) -> Iterator[None]:
        configure(candidate.clone, **dict(fault.settings))
        if not fault.what:
            yield
        else:
            with candidate.stand_in.fault(fault.what, fault.services, fault.kinds):
                yield

    yield broken
    configure(candidate.clone)


def check(done: Make, words: str | None) -> None:
    """Whether make ended as it must: well, or in one sentence with `words` in it, and without the token either way."""
    lines = done.stdout.strip().splitlines()
    assert "Traceback" not in done.stdout and TOKEN not in done.stdout and READ_ONLY not in done.stdout
    if words is None:
        assert done.returncode == 0, done.stdout
    else:
        assert done.returncode == 2 and lines[-1].startswith("make: ***"), done.stdout
        assert lines[-2].startswith("error: ") and words in lines[-2], done.stdout
        assert [line for line in lines if "error" in line.lower()] == lines[-2:], done.stdout


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_trouble_is_told_and_costs_nothing(
    candidate: Moved, trouble: Callable[[Fault], AbstractContextManager[None]], fault: Fault
) -> None:
    """Under a fault run and push end within a minute, each in one sentence; afterwards they complete the work."""
    clone, stand_in = candidate.clone, candidate.stand_in
    with trouble(fault):
        run = clone.make("run", check=False, timeout=MINUTE)
        push = clone.make("push", check=False, timeout=MINUTE)
    print(run.stdout, push.stdout)
    check(run, fault.run)
    check(push, fault.push)
    if fault.run:
        assert stand_in.stages() == {"2": "Production"}
    configure(clone)
    again = clone.make("run")
    assert stages_line(again) == NOTHING
    assert ("published now" if fault.run else "published before") in again.stdout
    assert sorted(stand_in.stages().values()) == ["Production", "Staging"]
    assert stand_in.stages()["2"] == "Production"
    clone.make("push")
    assert set(contents(clone)) <= set(pushed(stand_in)[0])
