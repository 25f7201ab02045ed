"""Places outside of the clone: what DVC's configuration or a link leads to is seen by the runner, or refused."""

import pytest

from scripts import places, remote
from scripts.project import Project, UserError

REMOTE = "[core]\n    remote = nas\n['remote \"nas\"']\n    url = {}\n"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "clone" / ".dvc").mkdir(parents=True)
    return Project(tmp_path / "clone")


def check(project, *mounts):
    places.check({"RUNNER_MOUNTS": ":".join(map(str, mounts))}, project)


@pytest.mark.parametrize("file", ["config", "config.local"])
@pytest.mark.parametrize("url", ["{nas}", "../../nas", "{nas}/", "{clone}/../nas", "{nas}/below"])
def test_a_remote_outside_must_be_seen(project, file, url):
    """A default remote in a folder outside the clone, however it is written, is used if the runner has that folder."""
    nas = project.root.with_name("nas")
    (project.root / ".dvc" / file).write_text(REMOTE.format(url.format(nas=nas, clone=project.root)))
    with pytest.raises(UserError, match=r"the remote nas of DVC's configuration is .*/nas.*, which is not here"):
        check(project, project.root.with_name("nasty"))
    check(project, "/elsewhere", nas)


@pytest.mark.parametrize(
    "url", ["s3://bucket/x", "https://host/x", "../.local/remote", "{clone}/x", "remote://other/x"]
)
def test_another_remote_needs_no_place(project, url):
    """A remote on a server, and one in the clone, need nothing outside of it."""
    (project.root / ".dvc" / "config").write_text(REMOTE.format(url.format(clone=project.root)))
    check(project)


def test_the_local_configuration_overrides_the_committed_one(project):
    """As DVC reads it: config.local wins, section by section and key by key; only the default remote counts."""
    (project.root / ".dvc" / "config").write_text(REMOTE.format("/not/here"))
    local = project.root / ".dvc" / "config.local"
    local.write_text('[core]\n    remote = mine\n[remote "mine"]\n    url = ../x\n')
    check(project)
    local.write_text("['remote \"nas\"']\n    url = ../y\n")
    check(project)


def test_a_cache_outside_must_be_seen(project):
    """DVC's cache is where its configuration says, if the runner has that folder."""
    (project.root / ".dvc" / "config.local").write_text("[cache]\n    dir = ../../cache\n    type = symlink\n")
    with pytest.raises(
        UserError, match=r"the cache of DVC's configuration \(cache.dir\) is .*/cache, which is not here"
    ):
        check(project)
    check(project, project.root.with_name("cache"))


def test_the_remote_of_the_environment_is_named_by_its_variable(project):
    """What is wrong with DVC_REMOTE_URL is said with that name."""
    remote.configure({"DVC_REMOTE_URL": "/srv/x"}, project)
    with pytest.raises(UserError, match=r"^DVC_REMOTE_URL is /srv/x, which is not here; expected a folder that exists"):
        check(project)


@pytest.mark.parametrize("link", ["data", "data/external", "data/external/a/b.csv"])
def test_a_path_of_the_pipeline_behind_a_link(project, link):
    """An input that is a link, or lies behind one, is used if the runner has what it leads to."""
    there = project.root.with_name("there")
    there.mkdir()
    (project.root / link).parent.mkdir(parents=True, exist_ok=True)
    (project.root / link).symlink_to(there)
    path = link if link.endswith(".csv") else f"{link}/x.csv"
    with pytest.raises(UserError, match=rf"{path} leads to {there}.*, which the runner does not see; expected"):
        places.check_paths([path], {}, project)
    places.check_paths([path], {"RUNNER_MOUNTS": str(there)}, project)


def test_a_link_within_the_clone_needs_no_place(project):
    """A link from one folder of the clone to another one is nobody's concern."""
    (project.root / "data").mkdir()
    (project.root / "data" / "x.csv").symlink_to("../y.csv")
    places.check_paths(["data/x.csv", "data/not/there.csv"], {}, project)
