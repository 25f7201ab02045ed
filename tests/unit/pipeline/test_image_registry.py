"""Images from a registry: which are taken, what is said of the others, and what is sent there."""

import json
import shlex

import pytest

from scripts.pipeline import build, image_registry
from scripts.pipeline.images import BASE, Image, Source
from scripts.project import Unavailable, UserError

HOST = "registry.example.org:5000/team"
BASE_IMAGE = Image(BASE, "stages/base:111111111111", {"Dockerfile": Source(b"FROM python")})
STAGE = Image("fit", "stages/fit:222222222222", {"Dockerfile": Source(b"FROM base")})
WANTED = {image.name: image for image in (BASE_IMAGE, STAGE)}
LABELS = {"pipeline.image": "fit", "pipeline.python": "python:3", "pipeline.tag": STAGE.tag}


@pytest.fixture(autouse=True)
def runner(monkeypatch):
    monkeypatch.setenv("CLONE", "0123456789ab")
    monkeypatch.setenv("PYTHON_IMAGE", "python:3")
    monkeypatch.setenv("RUNNER_IMAGE", "stages/runner:1")
    monkeypatch.setenv("IMAGE_REGISTRY", HOST)


def inspected(docker, labels, architecture="amd64", name=f"{HOST}/{STAGE.tag}"):
    """Let the engine tell of an image, and of the Python image."""
    python = {"Os": "linux", "Architecture": "amd64", "Config": {"Labels": {"pipeline.image": "python"}}}
    found = [{"Os": "linux", "Architecture": architecture, "Config": {"Labels": labels}}, python]
    docker.does(f"image inspect {name} python:3", f"echo {shlex.quote(json.dumps(found))}")


def built(docker):
    return [line.split("--tag ")[1].split()[0] for line in docker.asked if line.startswith("buildx build")]


def test_what_the_registry_has_is_not_built(docker, project, capsys):
    """An image is pulled by its tag, gets that tag and the clone's own here, and keeps no other; the rest is built."""
    docker.does(f"pull --quiet {HOST}/{BASE_IMAGE.tag}", "echo 'manifest unknown' >&2; exit 1")
    inspected(docker, LABELS | {"pipeline.source": "debian-packages", "org.example": "anything"})
    assert build.ensure(WANTED, project) == ["base"]
    assert built(docker) == [BASE_IMAGE.tag]
    assert [line for line in docker.asked if line.startswith(("tag", "image rm"))] == [
        f"tag {HOST}/{STAGE.tag} {STAGE.tag}",
        f"image rm {HOST}/{STAGE.tag}",
        f"tag {STAGE.tag} stages/clone-0123456789ab:fit",
    ]
    assert f"pulled {STAGE.tag} in " in capsys.readouterr().out


@pytest.mark.parametrize("given", ["", " "])
def test_without_a_registry_none_is_asked(docker, project, monkeypatch, given):
    """If the setting is empty, images are built as ever."""
    monkeypatch.setenv("IMAGE_REGISTRY", given)
    assert build.ensure(WANTED, project) == ["base", "fit"]
    assert not [line for line in docker.asked if line.startswith("pull")]


@pytest.mark.parametrize(
    ("labels", "architecture", "words"),
    [
        ({**LABELS, "pipeline.image": "other"}, "amd64", "its label pipeline.image is 'other'; expected 'fit'"),
        ({**LABELS, "pipeline.tag": "stages/fit:0"}, "amd64", "pipeline.tag is 'stages/fit:0'; expected 'stages/fit:2"),
        ({**LABELS, "pipeline.python": "python:2"}, "amd64", "its label pipeline.python is 'python:2'; expected"),
        ({**LABELS, "pipeline.role": "runner"}, "amd64", "its label pipeline.role is 'runner'; expected none"),
        ({**LABELS, "com.docker.compose.service": "mlflow"}, "amd64", "its label com.docker.compose.service is"),
        (None, "amd64", "its label pipeline.image is none; expected 'fit'"),
        (LABELS, "arm64", "it is for linux/arm64; expected linux/amd64"),
    ],
)
def test_an_image_that_is_another_one_is_not_taken(docker, project, capsys, labels, architecture, words):
    """One with other labels, or for another processor, gets no tag here; a line says why, and it is built."""
    docker.does(f"pull --quiet {HOST}/{BASE_IMAGE.tag}", "echo 'manifest unknown' >&2; exit 1")
    inspected(docker, labels, architecture)
    assert build.ensure(WANTED, project) == ["base", "fit"]
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("IMAGE_REGISTRY")]
    assert len(said) == 1 and words in said[0] and said[0].endswith("it is built here")
    assert not [line for line in docker.asked if line.startswith("tag")]
    assert f"image rm {HOST}/{STAGE.tag}" in docker.asked


@pytest.mark.parametrize(
    "said",
    [
        "dial tcp 10.0.0.1:5000: connection refused",
        "pull access denied for x, repository does not exist or may",
    ],
)
def test_a_registry_that_is_away_is_asked_once(docker, project, capsys, said):
    """One that does not answer, or wants a login, is told in one line; all images are built."""
    docker.does("pull", f"echo {shlex.quote(said)} >&2; exit 1")
    assert build.ensure(WANTED, project) == ["base", "fit"]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("IMAGE_REGISTRY")]
    assert lines == [f"IMAGE_REGISTRY: {HOST} did not give {BASE_IMAGE.tag} ({said}); images are built here"]


@pytest.mark.parametrize(
    "given", ["https://registry.example.org", "team", "registry.example.org/Team", "a b.c", "--help", "r.io/x:1"]
)
def test_what_is_no_address_is_refused(monkeypatch, given):
    """A setting that Docker would read as something else is one sentence."""
    monkeypatch.setenv("IMAGE_REGISTRY", given)
    with pytest.raises(UserError, match=r"^IMAGE_REGISTRY is '.*'; expected one like .*: correct it in .env$"):
        image_registry.address()


@pytest.mark.parametrize("given", ["localhost/x", "10.0.0.1:5000", "r.io/a/b-c.d_e", "registry:5000"])
def test_an_address_is_taken_as_it_is(monkeypatch, given):
    """Hosts with a dot or a port are registries, with or without folders."""
    monkeypatch.setenv("IMAGE_REGISTRY", f"{given}/")
    assert image_registry.address() == given


def test_what_is_sent_is_what_others_would_take(docker):
    """An image is sent under the registry's name, which it has only as long; one that nobody would take is refused."""
    inspected(docker, LABELS, name=STAGE.tag)
    image_registry.push([STAGE])
    name = f"{HOST}/{STAGE.tag}"
    assert docker.asked[1:] == [f"tag {STAGE.tag} {name}", f"push --quiet {name}", f"image rm {name}"]
    inspected(docker, {**LABELS, "pipeline.tag": "older"}, name=STAGE.tag)
    with pytest.raises(UserError, match=r"would not be taken by other machines: its label pipeline.tag is 'older'"):
        image_registry.push([STAGE])


def test_a_registry_that_takes_nothing_is_a_sentence(docker):
    """What Docker says of a push is in the sentence, and the long name is gone here."""
    inspected(docker, LABELS, name=STAGE.tag)
    docker.does("push", "echo 'no basic auth credentials' >&2; exit 1")
    with pytest.raises(Unavailable, match=r"is not in .*: no basic auth credentials; expected a registry that takes"):
        image_registry.push([STAGE])
    assert docker.asked[-1] == f"image rm {HOST}/{STAGE.tag}"


def test_an_image_without_its_labels_is_built_again(docker, project):
    """One that an older version built has none by which others know it: it is built again, and no other is."""
    inspected(docker, {"pipeline.image": "base", "pipeline.python": "python:3"}, name=BASE_IMAGE.tag)
    inspected(docker, LABELS, name=STAGE.tag)
    build.renew(WANTED, project)
    assert built(docker) == [BASE_IMAGE.tag]
