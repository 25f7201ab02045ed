"""What takes the place of DVC's own functions gives what they give."""

import errno
import hashlib
import random
import resource
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts.pipeline import dvc_adapter, dvc_faster
from scripts.pipeline.dvc_faster import localfs
from scripts.yaml12 import load_yaml


def test_parameters_are_read_once_until_they_change(tmp_path):
    """A file of parameters is read again when it is another one, and each stage gets a copy of its own."""
    file, loaded, by_dvc = tmp_path / "params.yaml", [], []
    parameters = dvc_faster.Parameters(
        lambda path, fs: loaded.append(path) or load_yaml(Path(path).read_text()),
        lambda fs, path, names, flatten: by_dvc.append(names) or {},
    )
    here, there = SimpleNamespace(protocol="local"), SimpleNamespace(protocol="dvc")
    file.write_text("a: {b: 1}")
    parameters.load(str(file), here)["a"]["b"] = 5
    parameters.read(here, str(file), ["a"], flatten=True)["a"]["b"] = 5
    assert parameters.load(str(file), here) == {"a": {"b": 1}} and len(loaded) == 1
    part = tmp_path / "part"
    part.write_text("a: {b: 2}")
    part.replace(file)
    assert parameters.read(here, str(file), ["a"], flatten=True) == {"a": {"b": 2}} and len(loaded) == 2
    assert parameters.load(str(file), there) == {"a": {"b": 2}} and len(loaded) == 3
    for fs, names, flatten in [(there, ["a"], True), (here, ["a"], False), (here, ["a.b"], True), (here, ["c"], True)]:
        parameters.read(fs, str(file), names, flatten=flatten)
    assert by_dvc == [["a"], ["a"], ["a.b"], ["c"]] and len(loaded) == 3


@pytest.mark.parametrize("kernel_copies", [True, False])
def test_a_file_is_copied_whole_and_made_once(tmp_path, monkeypatch, kernel_copies):
    """DVC copies a file by the kernel, or by reading it where that cannot, and deletes nothing on the way."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EXDEV, "not from one file system to another")

    if not kernel_copies:
        monkeypatch.setattr("os.copy_file_range", refuse)
    deleted = []
    monkeypatch.setattr("os.unlink", deleted.append)
    data = random.Random(1).randbytes(3_000_000)
    for size in (0, 1, len(data)):
        (tmp_path / "a").write_bytes(data[:size])
        (tmp_path / "a").chmod(0o444)
        dvc_adapter.copy(localfs, str(tmp_path / "a"), localfs, str(tmp_path / "new" / "b"))
        assert (tmp_path / "new" / "b").read_bytes() == data[:size]
        assert (tmp_path / "new" / "b").stat().st_mode & 0o200, "what is copied can be changed"
        (tmp_path / "a").chmod(0o644)
    assert not deleted


def test_a_full_disk_is_no_success(tmp_path):
    """A copy for which there is no room fails, and leaves nothing by the name of the file."""
    (tmp_path / "a").write_bytes(bytes(100_000))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))  # Python ignores the signal
    try:
        with pytest.raises(OSError, match="File too large"):
            dvc_adapter.copy(localfs, str(tmp_path / "a"), localfs, str(tmp_path / "b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not (tmp_path / "b").exists()


def test_dvc_asks_for_the_hash_that_was_found_meanwhile(tmp_path):
    """Where a file's hash was found while it was written, DVC does not read it again; of any other file it does."""
    (tmp_path / "a").write_bytes(b"1")
    hash_file = dvc_faster.dvc_data.hashfile.hash.hash_file
    dvc_faster.file_hash.note((tmp_path / "a").stat(), "0" * 32)
    assert hash_file(str(tmp_path / "a"), localfs, "md5")[1].value == "0" * 32
    assert hash_file(str(tmp_path / "a"), localfs, "sha256")[1].value == hashlib.sha256(b"1").hexdigest()
    (tmp_path / "b").write_bytes(b"1")
    assert hash_file(str(tmp_path / "b"), localfs, "md5")[1].value == hashlib.md5(b"1").hexdigest()
