"""How images are built: what each build gets, in which order, and what is said if one fails."""

import shlex

import pytest

from scripts.pipeline import build
from scripts.pipeline.images import BASE, Image, Source
from scripts.project import Unavailable, UserError

BASE_IMAGE = Image(BASE, "stages/base:111111111111", {"Dockerfile": Source(b"FROM python")})
STAGE = Image("my-stage", "stages/my-stage:222222222222", {"Dockerfile": Source(b"FROM base")})
OTHER = Image("other", "stages/other:333333333333", {"Dockerfile": Source(b"FROM base")})
WANTED = {image.name: image for image in (BASE_IMAGE, STAGE, OTHER)}


@pytest.fixture(autouse=True)
def runner(monkeypatch):
    monkeypatch.setenv("CLONE", "0123456789ab")
    monkeypatch.setenv("PYTHON_IMAGE", "python:3")
    monkeypatch.setenv("RUNNER_IMAGE", "stages/runner:1")


def arguments(docker):
    """Return the --build-arg of each build, by image."""
    found = {}
    for words in (line.split() for line in docker.asked if line.startswith("buildx build")):
        given = [words[at + 1] for at, word in enumerate(words) if word == "--build-arg"]
        found[words[words.index("--tag") + 1]] = dict(word.split("=", 1) for word in given if "=" in word)
    return found


def test_each_build_gets_the_images_to_start_from(docker, project):
    """A stage's build is told the base, the Python image, the runner and its own name; the base's all but the base."""
    build.ensure(WANTED, project)
    common = {"PYTHON_IMAGE": "python:3", "RUNNER_IMAGE": "stages/runner:1"}
    assert arguments(docker) == {
        BASE_IMAGE.tag: common | {"STAGE": "base"},
        STAGE.tag: common | {"STAGE": "my-stage", "BASE_IMAGE": BASE_IMAGE.tag},
        OTHER.tag: common | {"STAGE": "other", "BASE_IMAGE": BASE_IMAGE.tag},
    }


def test_the_base_is_built_first(docker, project):
    """All stages wait for the base, from which they start."""
    assert build.ensure(WANTED, project) == ["base", "my-stage", "other"]
    assert next(iter(arguments(docker))) == BASE_IMAGE.tag


def test_what_is_there_is_claimed_and_not_built(docker, project):
    """An image that this machine has gets this clone's second tag, once; only the others are built."""
    here = f"echo {BASE_IMAGE.tag} 1; echo {STAGE.tag} 2; echo {build.claim(STAGE)} 2"
    docker.does("image ls", here)
    assert build.ensure(WANTED, project) == ["other"]
    assert [line for line in docker.asked if line.startswith("tag")] == [
        f"tag {BASE_IMAGE.tag} stages/clone-0123456789ab:base"
    ]
    assert list(arguments(docker)) == [OTHER.tag]


def test_a_build_that_fails_says_where_its_log_is(docker, project):
    """The end of Docker's output is shown, then one sentence that names the image and the log."""
    docker.does("buildx build", "echo 'no such package: nonsense'; exit 1")
    with pytest.raises(UserError) as error:
        build.build(STAGE, BASE_IMAGE, project)
    *shown, last = str(error.value).splitlines()
    assert "no such package: nonsense" in shown
    assert last == (
        "error: the image of my-stage could not be built: correct what the lines above complain of (whole log: "
        ".local/logs/build-my-stage.log)"
    )
    assert (project.logs / "build-my-stage.log").read_text() == "no such package: nonsense\n"


def test_a_proxys_password_is_on_no_command_line(docker, project, monkeypatch):
    """Proxies are named to Docker, which reads their addresses from the environment."""
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy:3128")
    build.build(STAGE, BASE_IMAGE, project)
    assert "--build-arg HTTPS_PROXY " in docker.asked[-1] and "secret" not in docker.asked[-1]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("error: error sending request for url (https://pypi.org/simple/x/)", Unavailable),
        ("Temporary failure resolving 'deb.debian.org'", Unavailable),
        ("ERROR: Cannot connect to the Docker daemon at unix:///var/run/docker.sock", Unavailable),
        ("error: HTTP status server error (503 Service Unavailable)", Unavailable),
        ("error: x was not found in the package registry", UserError),
        ("error: HTTP status client error (404 Not Found)", UserError),
        ("make: *** [Makefile:1: all] Error 1", UserError),
    ],
)
def test_a_build_that_may_pass_by_itself_is_told_apart(docker, project, said, kind):
    """A network, an index of packages or an engine that is away is not the fault of what is built."""
    docker.does("buildx build", f"echo {shlex.quote(said)}; exit 1")
    with pytest.raises(UserError) as error:
        build.build(STAGE, BASE_IMAGE, project)
    assert type(error.value) is kind
