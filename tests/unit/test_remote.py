"""DVC's remote follows DVC_REMOTE_URL, and .dvc/config.local stays the user's."""

import stat
from pathlib import Path

import pytest

from scripts import remote
from scripts.project import UserError

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
def path(tmp_path, monkeypatch):
    """The config.local of a project of its own."""
    for folder in (".dvc", ".local"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(remote, "ROOT", tmp_path)
    monkeypatch.setattr(remote, "LOCAL", tmp_path / ".local")
    monkeypatch.setattr(remote, "CONFIG_LOCAL", tmp_path / ".dvc" / "config.local")
    (tmp_path / ".dvc" / "config").write_text("[core]\n    remote = local\n['remote \"local\"']\n    url = ../store\n")
    return remote.CONFIG_LOCAL


def read(path):
    """The settings as DVC itself reads them from .dvc/config and .dvc/config.local."""
    from dvc.config import Config

    return Config(dvc_dir=str(path.parent), validate=True)


def identity(path):
    about = path.stat()
    return about.st_ino, about.st_mtime_ns, path.read_bytes()


def test_the_remote_of_the_environment_is_dvcs_default(path):
    """With DVC_REMOTE_URL DVC pushes there, with S3's endpoint if one is set."""
    remote.configure(S3)
    config = read(path)
    assert config["core"]["remote"] == "environment"
    assert config["remote"]["environment"]["url"] == "s3://dvc"
    assert config["remote"]["environment"]["endpointurl"] == S3["AWS_ENDPOINT_URL"]


def test_a_silent_s3_server_is_given_up_in_time(path):
    """DVC waits seconds for an answer of S3, three times over: under a minute."""
    remote.configure(S3)
    found = read(path)["remote"]["environment"]
    assert int(found["connect_timeout"]) + 3 * int(found["read_timeout"]) < 60


def test_a_folder_has_no_endpoint(path):
    """A remote in a folder takes nothing from the settings of S3."""
    remote.configure({"DVC_REMOTE_URL": "/srv/dvc", "AWS_ENDPOINT_URL": "https://s3.example.com"})
    found = read(path)["remote"]["environment"]
    assert found["url"] == "/srv/dvc" and "endpointurl" not in found


def test_the_file_is_its_owners_alone(path):
    """config.local is made with mode 0600."""
    remote.configure(S3)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_a_killed_run_left_is_no_way_to_read_it(path):
    """config.local has mode 0600 also where a killed run left a half-written one that others may read."""
    path.with_name("config.local.part").touch(mode=0o644)
    remote.configure(S3)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_written_only_when_needed(path):
    """Without a remote no file is made; a second time, or with the same remote, none is touched."""
    remote.configure({})
    assert not path.exists()
    remote.configure(S3)
    before = identity(path)
    remote.configure(S3)
    assert identity(path) == before


def test_a_file_of_the_users_is_not_touched_without_need(path):
    """A config.local without a word of ours stays as it is, byte by byte, when there is no DVC_REMOTE_URL."""
    path.write_text(OWN)
    before = identity(path)
    remote.configure({})
    assert identity(path) == before


def test_a_write_is_whole_or_not_at_all(path):
    """config.local is replaced in one step: who has it open goes on reading the old one."""
    path.write_text(OWN)
    with path.open() as reader:
        remote.configure(S3)
        assert reader.read() == OWN
    assert [file.name for file in path.parent.iterdir() if "part" in file.name] == []


def test_the_users_own_entries_stay(path):
    """What a user wrote into config.local, comments and quoted values included, outlives every change of the remote."""
    path.write_text(OWN)
    own = read(path)["remote"]["backup"]
    for environ in (S3, {"DVC_REMOTE_URL": "/srv/dvc"}, {}):
        remote.configure(environ)
        config = read(path)
        assert config["remote"]["backup"] == own
        assert str(config["core"]["checksum_jobs"]) == "3"
        assert "# mine" in path.read_text()


def test_an_emptied_url_brings_the_default_back(path):
    """Once DVC_REMOTE_URL is empty again DVC pushes to the remote of .dvc/config."""
    remote.configure(S3)
    remote.configure({"DVC_REMOTE_URL": "", **CREDENTIALS})
    config = read(path)
    assert config["core"]["remote"] == "local" and "environment" not in config["remote"]


def test_a_remote_that_the_user_chose_stays_chosen(path):
    """Without DVC_REMOTE_URL a default remote of the user's own in config.local is left alone."""
    path.write_text("[core]\n    remote = backup\n['remote \"backup\"']\n    url = /backup\n")
    remote.configure({})
    assert read(path)["core"]["remote"] == "backup"


def test_another_url_leaves_nothing_of_the_old_one(path):
    """From S3 to a folder: no endpoint of the old remote stays."""
    remote.configure(S3)
    remote.configure({"DVC_REMOTE_URL": "/srv/dvc"})
    found = read(path)["remote"]["environment"]
    assert found["url"] == "/srv/dvc" and "endpointurl" not in found


def test_no_credential_is_written(path):
    """config.local holds no credential, whichever remote is set: DVC takes them from the environment."""
    for environ in (S3, {"DVC_REMOTE_URL": "/srv/dvc", **CREDENTIALS}, CREDENTIALS):
        remote.configure(environ)
        assert not path.exists() or SECRET not in path.read_text()


def test_the_local_remote_is_made(path):
    """Without DVC_REMOTE_URL the folder of the default remote is there."""
    remote.configure({})
    assert (remote.LOCAL / "dvc-remote").is_dir()


@pytest.mark.parametrize("url", ["remote", "./remote", "../remote", "~/remote", "gs://bucket"])
def test_a_relative_folder_is_refused(path, url):
    """A relative DVC_REMOTE_URL is a UserError of one line that says what is expected."""
    with pytest.raises(UserError, match="absolute") as caught:
        remote.folder_to_mount({"DVC_REMOTE_URL": url})
    assert url in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("url", [None, "", "s3://bucket/x", "{clone}/.local/elsewhere", "{clone}"])
def test_what_the_runner_sees_is_not_mounted(path, url):
    """No remote, one on a server and one in the clone need no mount."""
    environ = {} if url is None else {"DVC_REMOTE_URL": url.format(clone=remote.ROOT)}
    assert remote.folder_to_mount(environ) is None


def test_a_folder_outside_the_clone_is_mounted_once(path, tmp_path_factory):
    """An absolute folder outside the clone, a neighbour with a similar name included, is to be mounted until it is."""
    for folder in (tmp_path_factory.mktemp("store"), remote.ROOT.with_name(f"{remote.ROOT.name}-store")):
        environ = {"DVC_REMOTE_URL": str(folder)}
        assert remote.folder_to_mount(environ) == folder
        assert remote.folder_to_mount(environ | {"RUNNER_MOUNT": str(folder)}) is None


def test_a_folder_written_as_an_address_is_not_lost(path):
    """file:///srv/dvc, a folder to DVC, is mounted or refused: what DVC put there would end with the runner."""
    try:
        assert remote.folder_to_mount({"DVC_REMOTE_URL": "file:///srv/dvc"}) == Path("/srv/dvc")
    except UserError as error:
        assert "DVC_REMOTE_URL" in str(error)


def test_a_path_out_of_the_clone_by_a_detour_is_mounted(path):
    """A path that only begins in the clone lies outside it."""
    assert remote.folder_to_mount({"DVC_REMOTE_URL": f"{remote.ROOT}/../store"}) is not None
