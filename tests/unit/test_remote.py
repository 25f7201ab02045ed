"""DVC's remote follows DVC_REMOTE_URL, and .dvc/config.local stays the user's."""

import stat

import pytest

from scripts import remote
from scripts.pipeline import dvc_adapter
from scripts.project import Project, UserError

SECRET = "s3cr3t-t0ken"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": SECRET,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "DAGSHUB_TOKEN": SECRET,
    "MLFLOW_TRACKING_PASSWORD": SECRET,
}
S3 = {"DVC_REMOTE_URL": "s3://dvc", "AWS_ENDPOINT_URL": "https://dagshub.com/me/repo.s3", **CREDENTIALS}
OWN = """\
# mine
[core]
    checksum_jobs = 3
['remote "backup"']
    url = ssh://example.com/x
    password = "a # b"
"""


@pytest.fixture
def project(tmp_path):
    """A project of its own, whose .dvc/config names a remote."""
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    remote = local\n['remote \"local\"']\n    url = ../store\n")
    return Project(tmp_path)


@pytest.fixture
def path(project):
    """Its config.local."""
    return project.dvc_config_local


@pytest.fixture
def configure(project):
    """`remote.configure` for that project."""
    return lambda environ: remote.configure(environ, project)


def read(path):
    """The settings as DVC itself reads them from .dvc/config and .dvc/config.local."""
    return dvc_adapter.config(path.parent)


def identity(path):
    about = path.stat()
    return about.st_ino, about.st_mtime_ns, path.read_bytes()


def test_the_remote_of_the_environment_is_dvcs_default(path, configure):
    """With DVC_REMOTE_URL DVC pushes there, with S3's endpoint if one is set."""
    configure(S3)
    config = read(path)
    assert config["core"]["remote"] == "environment"
    assert config["remote"]["environment"]["url"] == "s3://dvc"
    assert config["remote"]["environment"]["endpointurl"] == S3["AWS_ENDPOINT_URL"]


def test_a_silent_s3_server_is_given_up_in_time(path, configure):
    """DVC waits seconds for an answer of S3, three times over: under a minute."""
    configure(S3)
    found = read(path)["remote"]["environment"]
    assert int(found["connect_timeout"]) + 3 * int(found["read_timeout"]) < 60


def test_a_folder_has_no_endpoint(path, configure):
    """A remote in a folder takes nothing from the settings of S3."""
    configure({"DVC_REMOTE_URL": "/srv/dvc", "AWS_ENDPOINT_URL": "https://s3.example.com"})
    found = read(path)["remote"]["environment"]
    assert found["url"] == "/srv/dvc" and "endpointurl" not in found


def test_the_file_is_its_owners_alone(path, configure):
    """config.local is made with mode 0600."""
    configure(S3)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_killed_run_left_is_no_way_to_read_it(path, configure):
    """config.local has mode 0600 also where a killed run left a half-written one that others may read."""
    path.with_name("config.local.part").touch(mode=0o644)
    configure(S3)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_written_only_when_needed(path, configure):
    """Without a remote no file is made; a second time, or with the same remote, none is touched."""
    configure({})
    assert not path.exists()
    configure(S3)
    before = identity(path)
    configure(S3)
    assert identity(path) == before


def test_a_file_of_the_users_is_not_touched_without_need(path, configure):
    """A config.local without a word of ours stays as it is, byte by byte, when there is no DVC_REMOTE_URL."""
    path.write_text(OWN)
    before = identity(path)
    configure({})
    assert identity(path) == before


def test_a_write_is_whole_or_not_at_all(path, configure):
    """config.local is replaced in one step: who has it open still reads the old one."""
    path.write_text(OWN)
    with path.open() as reader:
        configure(S3)
        assert reader.read() == OWN
    assert [file.name for file in path.parent.iterdir() if "part" in file.name] == []


def test_the_users_own_entries_stay(path, configure):
    """What a user wrote into config.local, comments and quoted values included, outlives every change of the remote."""
    path.write_text(OWN)
    own = read(path)["remote"]["backup"]
    for environ in (S3, {"DVC_REMOTE_URL": "/srv/dvc"}, {}):
        configure(environ)
        config = read(path)
        assert config["remote"]["backup"] == own
        assert str(config["core"]["checksum_jobs"]) == "3"
        assert "# mine" in path.read_text()


def test_an_emptied_url_brings_the_default_back(path, configure):
    """Once DVC_REMOTE_URL is empty again DVC pushes to the remote of .dvc/config."""
    configure(S3)
    configure({"DVC_REMOTE_URL": "", **CREDENTIALS})
    config = read(path)
    assert config["core"]["remote"] == "local" and "environment" not in config["remote"]


def test_a_remote_that_the_user_chose_stays_chosen(path, configure):
    """Without DVC_REMOTE_URL a default remote of the user's own in config.local is left alone."""
    path.write_text("[core]\n    remote = backup\n['remote \"backup\"']\n    url = /backup\n")
    configure({})
    assert read(path)["core"]["remote"] == "backup"


def test_another_url_leaves_nothing_of_the_old_one(path, configure):
    """From S3 to a folder: no endpoint of the old remote stays."""
    configure(S3)
    configure({"DVC_REMOTE_URL": "/srv/dvc"})
    found = read(path)["remote"]["environment"]
    assert found["url"] == "/srv/dvc" and "endpointurl" not in found


def test_no_credential_is_written(path, configure):
    """config.local holds no credential, whichever remote is set: DVC takes them from the environment."""
    for environ in (S3, {"DVC_REMOTE_URL": "/srv/dvc", **CREDENTIALS}, CREDENTIALS):
        configure(environ)
        assert not path.exists() or SECRET not in path.read_text()


def test_the_local_remote_is_made(project, configure):
    """Without DVC_REMOTE_URL the folder of the default remote is there."""
    configure({})
    assert project.dvc_remote.is_dir()


@pytest.mark.parametrize("url", ["remote", "./remote", "../remote", "~/remote", "gs://bucket", "file:///srv/dvc"])
def test_a_relative_folder_is_refused(project, url):
    """A relative DVC_REMOTE_URL is a UserError of one line that says what is expected."""
    with pytest.raises(UserError, match="absolute") as caught:
        remote.check({"DVC_REMOTE_URL": url}, project)
    assert url in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("password = sekrit", "password"),
        ("    secret_access_key = sekrit", "secret_access_key"),
        ("token=sekrit", "token"),
        ("connection_string = sekrit", "connection_string"),
        ("url = https://me:sekrit@host/x", "a password in an address"),
    ],
)
def test_a_secret_in_the_committed_config_is_refused(project, line, what):
    """.dvc/config is in git, and in the patch that a version has: a secret there is named, and not shown."""
    path = project.root / ".dvc" / "config"
    path.write_text(f"{path.read_text()}['remote \"x\"']\n{line}\n")
    with pytest.raises(UserError, match=f".dvc/config holds {what}, .*'dvc remote modify --local'") as caught:
        remote.check({}, project)
    assert "sekrit" not in str(caught.value)


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "DVC_REMOTE_URL"])
def test_an_address_with_a_password_is_refused(project, name):
    """It would be printed, and kept in a file."""
    with pytest.raises(UserError, match=f"{name} holds a user or a password") as caught:
        remote.check({name: "https://me:sekrit@host/x"}, project)
    assert "sekrit" not in str(caught.value)
