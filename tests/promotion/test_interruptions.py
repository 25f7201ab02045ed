"""Killed, refused or overtaken at any call to the registry, a promotion ends where the next one brings it."""

import contextlib
import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import requests

from scripts.registry import versions
from scripts.registry.mlflow import RegistryError
from tests.promotion.conftest import CURRENT, OLD, Server, use
from tests.promotion.model import Files, Model

pytestmark = [
    pytest.mark.docker,
    pytest.mark.filterwarnings("ignore:.*transition_model_version_stage", "ignore:.*multi-threaded, use of fork"),
]
FORK = multiprocessing.get_context("fork")
KILLED = 9
MOST_CHANGES = 200
SERVERS = [
    pytest.param(CURRENT, id="current-mlflow", marks=pytest.mark.deep),
    pytest.param(OLD, id="mlflow-2.7.1"),
]


@pytest.fixture(params=SERVERS)
def server(
    request: pytest.FixtureRequest, server_for: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> Server:
    """Each of the servers; `make test` takes DagsHub's."""
    running = server_for(request.param)
    use(running, monkeypatch)
    return running


EVERY = [pytest.param(17, id="some-calls"), pytest.param(1, id="every-call", marks=pytest.mark.deep)]
"""How far apart the calls are at which a fault comes. Each server begins at another one."""
Send = Callable[..., requests.Response]
Publication = Callable[[], None]


def writes(request: requests.PreparedRequest) -> bool:
    """Return True if a call changes what the server holds: a kill after another one leaves what the last one left."""
    return request.method != "GET" and not request.url.endswith("/search")


@contextmanager
def calls(
    instead: Callable[[int, Callable[[], requests.Response], requests.PreparedRequest], requests.Response],
) -> Iterator[None]:
    """Until the block ends, the n-th call to the server is `instead(n, call, request)`; n begins with 1."""
    send, count = requests.Session.send, itertools.count(1)

    def counted(session: requests.Session, request: requests.PreparedRequest, **options: object) -> requests.Response:
        return instead(next(count), lambda: send(session, request, **options), request)

    requests.Session.send = counted
    try:
        yield
    finally:
        requests.Session.send = send


def kill_after(publish: Publication, last: int) -> None:
    """In a process of its own: publish, and be killed right after change number `last` was answered."""
    changes = itertools.count(1)

    def instead(_: int, call: Callable[[], requests.Response], request: requests.PreparedRequest) -> requests.Response:
        answer = call()
        if writes(request) and next(changes) == last:
            os._exit(KILLED)
        return answer

    with calls(instead):
        publish()
    os._exit(0)


def in_a_process(work: Callable[..., None], *arguments: object) -> multiprocessing.Process:
    process = FORK.Process(target=work, args=arguments)
    process.start()
    return process


def whole(*published: tuple[Model, Files]) -> Publication:
    """Return the publication of these, step by step side by side, as the publishing process of a run does it."""

    def publish() -> None:
        for owner, _ in published:
            versions.end_abandoned(owner.settings)
        begun = [owner.begin() for owner, _ in published]
        runs = [owner.upload(files, run) for (owner, files), run in zip(published, begun, strict=True)]
        for (owner, _), run in zip(published, runs, strict=True):
            owner.log(run)
        outcomes = [owner.register(files, run) for (owner, files), run in zip(published, runs, strict=True)]
        for (owner, _), run, outcome in zip(published, runs, outcomes, strict=True):
            owner.complete(outcome, run)

    return publish


def points(model: Model, every: int) -> Iterator[int]:
    """Yield the numbers of changes after which a publication is killed; ends when the last one ended by itself."""
    yield from range(1 + sum(model.name.encode()) % every, MOST_CHANGES, every)
    pytest.fail("a publication makes more calls than expected")


def check_runs(*models: Model) -> None:
    """Each model has one run a version, and of what killed processes began nothing is running."""
    for model in models:
        runs = model.runs()
        assert "RUNNING" not in [run.info.status for run in runs]
        registered = [version.run_id for version in model.state().versions]
        assert sorted(run.info.run_id for run in runs if "model_sha256" in run.data.tags) == sorted(registered)


@pytest.mark.parametrize("every", EVERY)
def test_the_first_models_survive_a_kill_after_any_change(model: Model, neighbour: Model, every: int) -> None:
    """Killed after any change, the first publication of two models ends with the next one: each has one run, one
    version, is in production, has all that the stages left, and is described."""
    name = model.name
    for point in points(model, every):
        model.name = model.experiment = neighbour.experiment = f"{name}-{point}"
        neighbour.name = f"{name}-{point}-neighbour"
        publication = whole(*((each, each.files(0.5, extra="the same bytes")) for each in (model, neighbour)))
        killed = in_a_process(kill_after, publication, point)
        killed.join()
        publication()
        for each in (model, neighbour):
            each.check_at_rest()
            assert each.stages() == {1: "Production"}
            assert each.state().version(1).tags["dvc_lock_sha256"] == "1" * 64
            (run,) = [run for run in each.runs() if "model_sha256" in run.data.tags]
            assert run.info.status == "FINISHED"
            assert run.data.metrics == {"loss": 1 / 3, "accuracy": 0.5}
            assert each.name in run.data.tags["mlflow.note.content"].replace("\\", "")
            assert "**Limits**" in each.client.get_registered_model(each.name).description
            assert [point.step for point in each.client.get_metric_history(run.info.run_id, "loss")] == [0, 1, 2]
        check_runs(model, neighbour)
        if killed.exitcode == 0:
            return
        assert killed.exitcode == KILLED


@pytest.mark.parametrize("every", EVERY)
def test_a_better_model_survives_a_kill_after_any_change(model: Model, every: int) -> None:
    """Killed after any change, a better model's publication ends with the next one: it is in production, alone."""
    model.publish(0.001)
    for point in points(model, every):
        files, before = model.files((200 + point) / 1000), len(model.state().versions)
        killed = in_a_process(kill_after, whole((model, files)), point)
        killed.join()
        outcome = model.publish_whole(files)
        model.check_at_rest()
        check_runs(model)
        assert outcome.stage == "Production"
        assert model.stages()[int(outcome.version)] == "Production"
        assert len(model.state().versions) == before + 1
        if killed.exitcode == 0:
            return


@pytest.mark.parametrize("every", EVERY)
def test_what_was_killed_is_finished_by_another_model(model: Model, every: int) -> None:
    """Killed after any change, a better model is not skipped by the next one, which is worse than it."""
    model.publish(0.001)
    for point in points(model, every):
        files = model.files((200 + 2 * point) / 1000)
        killed = in_a_process(kill_after, whole((model, files)), point)
        killed.join()
        model.publish(0.15)
        model.check_at_rest()
        found = [version for version in model.state().versions if version.tags.get("model_sha256") == files.digest]
        assert [version.stage for version in found] in ([], ["Production"])
        if killed.exitcode == 0:
            return


def answer(request: requests.PreparedRequest, status: int, text: str) -> requests.Response:
    made = requests.Response()
    made.status_code, made._content, made.url, made.request = status, text.encode(), request.url, request
    return made


FAULTS: dict[str, Callable[[requests.PreparedRequest], requests.Response]] = {
    "500": lambda request: answer(request, 500, "out of order"),
    "INTERNAL_ERROR": lambda request: answer(request, 500, '{"error_code": "INTERNAL_ERROR", "message": "no"}'),
    "401": lambda request: answer(request, 401, ""),
    "a page": lambda request: answer(request, 200, "<html>Welcome</html>"),
    "404": lambda request: answer(request, 404, "<html>Not Found</html>"),
}


def broken_from(model: Model, files: Files, first: int, fault: str) -> bool:
    """Publish to a server that is broken from call number `first` on; return whether there was such a call."""
    came = False

    def instead(n: int, call: Callable[[], requests.Response], request: requests.PreparedRequest) -> requests.Response:
        nonlocal came
        if n < first:
            return call()
        came = True
        if fault == "broken off":
            raise requests.ConnectionError("Connection reset by peer")
        return FAULTS[fault](request)

    with calls(instead):
        try:
            model.publish_whole(files)
        except RegistryError as error:
            assert "\n" not in str(error)
    return came


@pytest.mark.parametrize(
    ("fault", "every"),
    [
        pytest.param("500", 12, id="500 at some calls"),
        *(
            pytest.param(fault, 1 if fault == "500" else 4, id=f"{fault} at any call", marks=pytest.mark.deep)
            for fault in [*FAULTS, "broken off"]
        ),
    ],
)
def test_no_fault_of_the_server_promotes(model: Model, fault: str, every: int) -> None:
    """From any call on, whatever the server answers is no reason to promote: a worse model never gets to production."""
    model.publish(0.9)
    first = 1 + sum(model.name.encode()) % every
    while broken_from(model, files := model.files(0.5), first, fault):
        assert [number for number, stage in model.stages().items() if stage == "Production"] == [1]
        assert model.state().aliases["production"] == 1
        first += every
    assert first > 30
    assert model.publish_files(files).stage == "Staging"
    model.check_at_rest()
    assert model.stages()[1] == "Production"


# --- several machines at once


def in_step(meet: threading.Barrier, publish: Publication) -> None:
    """In a process of its own: publish; every change waits until the others come to one too, or to their end."""

    def instead(_: int, call: Callable[[], requests.Response], request: requests.PreparedRequest) -> requests.Response:
        if writes(request):
            with contextlib.suppress(threading.BrokenBarrierError):
                meet.wait(timeout=2)
        return call()

    meet.wait()
    with calls(instead):
        publish()
    os._exit(0)


def at_once(start: threading.Barrier, publish: Publication) -> None:
    """In a process of its own: publish when the others are ready too."""
    start.wait()
    publish()
    os._exit(0)


def race(publications: Sequence[Publication], work: Callable[..., None] = at_once) -> None:
    """Publish all at once."""
    start = FORK.Barrier(len(publications))
    racing = [in_a_process(work, start, publication) for publication in publications]
    for process in racing:
        process.join()
    assert [process.exitcode for process in racing] == [0] * len(racing)


def sides(*published: tuple[Model, Files]) -> Publication:
    """Return the publication of these, one after the other, without what a run logs beside."""
    return lambda: [owner.publish_files(files) for owner, files in published] and None


@pytest.mark.parametrize("races", [2, pytest.param(50, marks=pytest.mark.deep)])
def test_of_two_promoters_the_better_wins(model: Model, neighbour: Model, races: int) -> None:
    """In races of two machines with two better models each, the better one of both ends in production, alone, whoever
    came first."""
    name = model.name
    for number in range(races):
        if number % 5 == 0:  # a registry of few versions is quicker
            model.name = model.experiment = neighbour.experiment = f"{name}-{number}"
            neighbour.name = f"{name}-{number}-neighbour"
            for each in (model, neighbour):
                each.publish(0.001)
        pairs = [[each.files((10 * number + more) / 1000) for more in (12, 17)] for each in (model, neighbour)]
        (good, better), (good_too, better_too) = pairs
        machines = [sides((model, good), (neighbour, better_too)), sides((model, better), (neighbour, good_too))]
        race(machines if number % 2 else machines[::-1])
        machines[number % 3 == 0]()  # the next run of either
        for each, best in ((model, better), (neighbour, better_too)):
            each.check_at_rest()
            assert each.production() == best.digest, number
        check_runs(model, neighbour)


@pytest.mark.parametrize("every", EVERY)
def test_overtaken_and_killed_at_once(model: Model, every: int) -> None:
    """A promoter that is overtaken by a better one between any two changes, and then killed, leaves no trace of it."""
    name = model.name
    for point in range(8 + sum(name.encode()) % every, MOST_CHANGES, every):  # before, it has not registered
        model.name = model.experiment = f"{name}-{point}"
        model.publish(0.1)
        good, better = model.files(0.2), model.files(0.3)
        late = in_a_process(publish_late, model, good, better, point)
        late.join()
        model.publish_files(good)
        model.check_at_rest()
        if late.exitcode == 0:
            return
        assert model.production() == better.digest, point
    pytest.fail("a publication makes more changes than expected")


def publish_late(model: Model, files: Files, others: Files, point: int) -> None:
    """In a process of its own: publish; before change number `point` another one publishes, then this one dies."""
    changes = itertools.count(1)

    def instead(_: int, call: Callable[[], requests.Response], request: requests.PreparedRequest) -> requests.Response:
        if not writes(request) or next(changes) != point:
            return call()
        in_a_process(lambda: model.publish_files(others) and os._exit(0)).join()
        call()
        os._exit(KILLED)

    with calls(instead):
        model.publish_files(files)
    os._exit(0)


@pytest.mark.parametrize("races", [1, pytest.param(3, marks=pytest.mark.deep)])
def test_the_first_two_models_at_once(model: Model, neighbour: Model, races: int) -> None:
    """Two machines that begin a registry at once end with all versions in it, the better ones in production."""
    name = model.name
    for number in range(races):
        model.name = model.experiment = neighbour.experiment = f"{name}-{number}"
        neighbour.name = f"{name}-{number}-neighbour"
        (good, better), (good_too, better_too) = ([each.files(0.1), each.files(0.2)] for each in (model, neighbour))
        machines = [sides((model, good), (neighbour, good_too)), sides((model, better), (neighbour, better_too))]
        race(machines, in_step)
        machines[0]()
        for each, best in ((model, better), (neighbour, better_too)):
            each.check_at_rest()
            assert len(each.stages()) == 2
            assert each.production() == best.digest
        check_runs(model, neighbour)


@pytest.mark.parametrize("every", [pytest.param(4, id="some-calls"), pytest.param(1, marks=pytest.mark.deep)])
def test_one_model_published_by_two_is_registered_once(model: Model, every: int) -> None:
    """Two machines that make each change of a publication at the same moment end with one version of the model,
    however far a third one came with it before it was killed."""
    model.publish(0.1)
    for done in range(0, 9, every):
        files = model.files((20 + done) / 100)
        if done:
            in_a_process(kill_after, sides((model, files)), done).join()
        race([sides((model, files))] * 2, in_step)
        model.publish_files(files)
        model.check_at_rest()
        check_runs(model)


@pytest.mark.parametrize("every", [pytest.param(15, id="some-calls"), pytest.param(3, marks=pytest.mark.deep)])
def test_a_person_and_a_machine_at_once(model: Model, every: int) -> None:
    """A person's decision in the middle of a promotion's calls leaves one version in production, by stage and alias."""
    for score in (0.1, 0.2):
        model.publish(score)
    for first in range(1 + sum(model.name.encode()) % every, 60, every):
        files = model.files((30 + first) / 100)

        def instead(n: int, call: Callable[[], requests.Response], _: object, first: int = first) -> requests.Response:
            if n == first:
                in_a_process(lambda: model.decide(1, "promote") or os._exit(0)).join()
            return call()

        with calls(instead):
            model.publish_files(files)
        model.publish_files(files)
        model.check_at_rest()
