"""Killed, refused or overtaken at any call to the registry, a promotion ends where the next one brings it."""

import contextlib
import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import requests

from stages.train import registry
from stages.train.server import RegistryError
from tests.promotion.conftest import Model

pytestmark = [
    pytest.mark.docker,
    pytest.mark.filterwarnings("ignore:.*transition_model_version_stage", "ignore:.*multi-threaded, use of fork"),
]
FORK = multiprocessing.get_context("fork")
KILLED = 9
RACES = 50
Send = Callable[..., requests.Response]


def writes(request: requests.PreparedRequest) -> bool:
    """Whether a call changes what the server holds: a kill after another one leaves what the one before it left."""
    return request.method != "GET" and not request.url.endswith("/search")


@contextmanager
def calls(instead: Callable[[int, Callable[[], requests.Response], requests.PreparedRequest], requests.Response]):
    """Until the block ends, the n-th call to the server is `instead(n, call, request)`; n begins with 1."""
    send, count = requests.Session.send, itertools.count(1)

    def counted(session: requests.Session, request: requests.PreparedRequest, **options: object) -> requests.Response:
        return instead(next(count), lambda: send(session, request, **options), request)

    requests.Session.send = counted
    try:
        yield
    finally:
        requests.Session.send = send


def publish_until(model: Model, files: tuple, last: int) -> None:
    """In a process of its own: publishes, and is killed right after its change number `last` was answered."""
    changes = itertools.count(1)

    def instead(_: int, call: Callable[[], requests.Response], request: requests.PreparedRequest) -> requests.Response:
        answer = call()
        if writes(request) and next(changes) == last:
            os._exit(KILLED)
        return answer

    with calls(instead):
        registry.publish(*files, model.settings)
    os._exit(0)


def in_a_process(work: Callable[..., None], *arguments: object) -> multiprocessing.Process:
    process = FORK.Process(target=work, args=arguments)
    process.start()
    return process


def fault_points(model: Model, files: Callable[[], tuple]) -> Iterator[tuple[int, tuple]]:
    """For each change that a publication makes: its number and the files of a publication that was killed after it."""
    for last in range(1, 200):
        candidate = files()
        killed = in_a_process(publish_until, model, candidate, last)
        killed.join()
        if killed.exitcode == 0:
            return  # it published to its end
        assert killed.exitcode == KILLED
        yield last, candidate
    pytest.fail("a publication makes more calls than expected")


def test_the_first_model_survives_a_kill_after_any_change(model: Model, tmp_path: object) -> None:
    """Killed after any change, the first publication ends with the next one: one run, one version, in production."""
    name, points = model.name, 0
    for point in range(1, 200):
        model.name = f"{name}-{point}"
        files = model.candidate(0.5)
        killed = in_a_process(publish_until, model, files, point)
        killed.join()
        outcome = registry.publish(*files, model.settings)
        model.check_at_rest()
        assert (outcome.stage, model.stages()) == ("Production", {1: "Production"})
        experiment = model.client.get_experiment_by_name(model.name)
        assert len(model.client.search_runs([experiment.experiment_id])) == 1
        if killed.exitcode == 0:
            break
        points += 1
    print(f"killed after each of {points} changes")
    assert points >= 15


def test_a_better_model_survives_a_kill_after_any_change(model: Model) -> None:
    """Killed after any change, a better model's publication ends with the next one: it is in production, alone."""
    model.publish(0.1)
    scores = iter(range(200, 1000))
    points = 0
    for _, files in fault_points(model, lambda: model.candidate(next(scores) / 1000)):
        before = len(model.state().versions)
        outcome = registry.publish(*files, model.settings)
        model.check_at_rest()
        assert outcome.stage == "Production"
        assert model.stages()[int(outcome.version)] == "Production"
        assert len(model.state().versions) - before in (0, 1)
        points += 1
    print(f"killed after each of {points} changes")
    assert points >= 15


def test_what_was_killed_is_finished_by_another_model(model: Model) -> None:
    """Killed after any change, a better model is not passed over by the next one, which is worse than it."""
    model.publish(0.1)
    scores = iter(range(200, 1000, 10))
    for _, files in fault_points(model, lambda: model.candidate(next(scores) / 1000)):
        digest = registry.sha256(files[0])
        model.publish(0.15)
        model.check_at_rest()
        killed = [version for version in model.state().versions if version.tags.get("model_sha256") == digest]
        assert [version.stage for version in killed] in ([], ["Production"])


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


@pytest.mark.parametrize("fault", [*FAULTS, "broken off"])
def test_no_fault_of_the_server_promotes(model: Model, fault: str) -> None:
    """From any call on, whatever the server answers is no reason to promote: a worse model never gets to production."""
    model.publish(0.9)
    first, faulty = 1, True
    while faulty:
        files, faulty = model.candidate(0.5), False

        def instead(
            n: int, call: Callable[[], requests.Response], request: requests.PreparedRequest, first: int = first
        ) -> requests.Response:
            nonlocal faulty
            if n < first:
                return call()
            faulty = True
            if fault == "broken off":
                raise requests.ConnectionError("Connection reset by peer")
            return FAULTS[fault](request)

        with calls(instead):
            try:
                registry.publish(*files, model.settings)
            except RegistryError as error:
                assert "\n" not in str(error)
        assert [number for number, stage in model.stages().items() if stage == "Production"] == [1]
        assert model.state().aliases["production"] == 1
        first += 1 if fault == "500" else 4  # every call by one of the faults, each fourth by the others
    assert first > 30
    assert registry.publish(*files, model.settings).stage == "Staging"
    model.check_at_rest()
    assert model.stages()[1] == "Production"


def publish_in_step(meet: object, model: Model, files: tuple) -> None:
    """In a process of its own: publishes; every change waits until the others come to one too, or to their end."""

    def instead(_: int, call: Callable[[], requests.Response], request: requests.PreparedRequest) -> requests.Response:
        if writes(request):
            with contextlib.suppress(threading.BrokenBarrierError):
                meet.wait(timeout=2)
        return call()

    meet.wait()
    with calls(instead):
        registry.publish(*files, model.settings)
    os._exit(0)


def publish_at(start: object, model: Model, files: tuple) -> None:
    """In a process of its own: publishes when the others are ready too."""
    start.wait()
    registry.publish(*files, model.settings)
    os._exit(0)


def race(model: Model, *candidates: tuple, work: Callable[..., None] = publish_at) -> None:
    """Publishes all at once."""
    start = FORK.Barrier(len(candidates))
    racing = [in_a_process(work, start, model, files) for files in candidates]
    for process in racing:
        process.join()
    assert [process.exitcode for process in racing] == [0] * len(racing)


def test_of_two_promoters_the_better_wins(model: Model) -> None:
    """In 50 races of two better models the better of them ends in production, alone, whoever came first."""
    name = model.name
    for number in range(RACES):
        if number % 5 == 0:  # a registry of few versions is quicker
            model.name = f"{name}-{number}"
            model.publish(0.001)
        good, better = (model.candidate((10 * number + more) / 1000) for more in (12, 17))
        race(model, *((good, better) if number % 2 else (better, good)))
        registry.publish(*(good if number % 3 else better), model.settings)  # the next run of either
        model.check_at_rest()
        winner = model.state().version(model.state().aliases["production"])
        assert winner.tags["model_sha256"] == registry.sha256(better[0]), number


def test_overtaken_and_killed_at_once(model: Model) -> None:
    """A promoter that is overtaken by a better one between any two changes, and then killed, leaves no trace of it."""
    name = model.name
    for point in range(8, 60):  # before, it has not registered
        model.name = f"{name}-{point}"
        model.publish(0.1)
        good, better = model.candidate(0.2), model.candidate(0.3)
        late = in_a_process(publish_late, model, good, better, point)
        late.join()
        registry.publish(*good, model.settings)
        model.check_at_rest()
        if late.exitcode == 0:
            return
        best = model.state().version(model.state().aliases["production"])
        assert best.tags["model_sha256"] == registry.sha256(better[0]), point
    pytest.fail("a publication makes more changes than expected")


def publish_late(model: Model, files: tuple, others: tuple, point: int) -> None:
    """In a process of its own: publishes; before its change number `point` another one publishes, then it dies."""
    changes = itertools.count(1)

    def instead(_: int, call: Callable[[], requests.Response], request: requests.PreparedRequest) -> requests.Response:
        if not writes(request) or next(changes) != point:
            return call()
        in_a_process(lambda: registry.publish(*others, model.settings) and os._exit(0)).join()
        call()
        os._exit(KILLED)

    with calls(instead):
        registry.publish(*files, model.settings)
    os._exit(0)


def test_the_first_two_models_at_once(model: Model) -> None:
    """Two machines that begin a registry at once end with both versions in it, the better one in production."""
    name = model.name
    for number in range(3):
        model.name = f"{name}-{number}"
        good, better = model.candidate(0.1), model.candidate(0.2)
        race(model, good, better, work=publish_in_step)
        registry.publish(*good, model.settings)
        model.check_at_rest()
        assert len(model.stages()) == 2
        best = model.state().version(model.state().aliases["production"])
        assert best.tags["model_sha256"] == registry.sha256(better[0])


def test_one_model_published_by_two_is_registered_once(model: Model) -> None:
    """Two machines that make each change of a publication at the same moment end with one version of the model,
    however far a third one came with it before it was killed."""
    model.publish(0.1)
    for done in range(7):
        files = model.candidate((20 + done) / 100)
        if done:
            in_a_process(publish_until, model, files, done).join()
        race(model, files, files, work=publish_in_step)
        registry.publish(*files, model.settings)
        model.check_at_rest()


def test_a_person_and_a_machine_at_once(model: Model) -> None:
    """A person's decision in the middle of a promotion's calls leaves one version in production, by stage and alias."""
    for score in (0.1, 0.2):
        model.publish(score)
    for first in range(1, 60, 3):
        files = model.candidate((30 + first) / 100)

        def instead(n: int, call: Callable[[], requests.Response], _: object, first: int = first) -> requests.Response:
            if n == first:
                in_a_process(lambda: model.decide(1, "promote") or os._exit(0)).join()
            return call()

        with calls(instead):
            registry.publish(*files, model.settings)
        registry.publish(*files, model.settings)
        model.check_at_rest()
