"""A clone with a dvc.lock and a filled cache, as recovery finds them."""

import hashlib
import json

import pytest

from scripts.project import Project
from scripts.recovery import dvc_files

FILES = {"a.csv": b"1,2\n", "b.csv": b"3,4,5\n"}


def md5(data):
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def put(project, digest, data):
    """Puts data into DVC's cache under that hash."""
    path = dvc_files.cached(project, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def project(tmp_path):
    """A project whose dvc.lock names a file and a folder of two files; the cache has all of them."""
    project = Project(tmp_path)
    project.local.mkdir()
    model = b"a model of some bytes\n"
    listing = json.dumps([{"md5": md5(data), "relpath": name} for name, data in FILES.items()]).encode()
    for data in (model, *FILES.values()):
        put(project, md5(data), data)
    put(project, f"{md5(listing)}.dir", listing)
    size = sum(map(len, FILES.values()))
    project.dvc_lock.write_text(
        "schema: '2.0'\n"
        "stages:\n"
        "  split:\n"
        "    cmd: split\n"
        "    outs:\n"
        f"    - path: data/parts\n      hash: md5\n      md5: {md5(listing)}.dir\n      size: {size}\n      nfiles: 2\n"
        "  fit:\n"
        "    cmd: fit\n"
        "    outs:\n"
        f"    - path: models/model\n      hash: md5\n      md5: {md5(model)}\n      size: {len(model)}\n"
    )
    return project
