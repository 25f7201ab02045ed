"""What `make doctor` says of DagsHub."""

import pytest

from scripts.checks.dagshub import dagshub

USER = {"/api/v1/user": (200, '{"login": "ann"}')}


@pytest.fixture
def bad(monkeypatch):
    """The lines about the DagsHub at an address that are not good, by name."""

    def call(host):
        monkeypatch.setenv("DAGSHUB_TOKEN", "a-token")
        monkeypatch.setenv("DAGSHUB_USER_NAME", "ann")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{host}/team/iris.mlflow")
        return {check.name: str(check) for check in dagshub() if not check.good}

    return call


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, "<html>welcome</html>"), "a page and not with data"),
        ((401, "{}"), "401: it does not accept"),
        ((404, "{}"), "404: there is no such address"),
        ((503, "{}"), "503: the server failed"),
    ],
)
def test_each_failure_of_the_host_has_its_own_words(serve, bad, answer, words):
    """A host that is not DagsHub, a token that it refuses and a server error are distinguished, without the token."""
    found = bad(serve({"/api/v1/user": answer}))
    assert found.keys() == {"DagsHub"} and words in found["DagsHub"] and "a-token" not in found["DagsHub"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, "{}"), "404: there is no such address, or this user may not see it"),
        ((500, "{}"), "500: the server failed"),
        ((200, '{"permissions": {"push": false}}'), "team/iris, which ann may only read"),
    ],
)
def test_each_failure_of_the_repository_has_its_own_words(serve, bad, answer, words):
    """A repository that is missing, one that may only be read and a server error are distinguished."""
    found = bad(serve(USER | {"/api/v1/repos/team/iris": answer}))
    assert found.keys() == {"repository"} and words in found["repository"]
