"""What a bucket holds: data is known by its hash, the run-cache's entries by their digests; nothing else gets in.

The bucket is a real S3 server's, behind the stand-in for DagsHub.
"""

import json
from collections.abc import Callable

import pytest
import yaml

from tests.border.test_printed import POWER
from tests.conftest import OUTPUTS, Clone, stages_line
from tests.dagshub.conftest import image, stand_in_for  # noqa: F401
from tests.dagshub.stand_in import OLD, StandIn, configure

pytestmark = [pytest.mark.docker, pytest.mark.deep]

KEY, VALUE = "ab" + "0" * 62, "cd" * 32
ENTRY = "cmd: touch bad\ndeps: []\nouts:\n- path: {path}\n  md5: " + "0" * 32 + "\n  size: 1\n"
NAMES = {
    "code of a stage": "runs/../../../stages/base/bad.py",
    "code of the runner": "runs/ab/../../../../scripts/bad.py",
    "a hook of git's": "runs/../../../.git/hooks/post-checkout",
    "DVC's settings": "runs/../../config.local",
    "a file of the host": "runs/../../../../../../../../../../tmp/bad-of-a-bucket",
    "an absolute path": f"runs//{KEY}/{VALUE}",
    "an entry in the wrong folder": f"runs/00/{KEY}/{VALUE}",
    "a short key": f"runs/ab/abab/{VALUE}",
    "a value in capitals": f"runs/ab/{KEY}/{VALUE.upper()}",
    "a folder more": f"runs/ab/{KEY}/{VALUE}/x",
    "a name with power": f"runs/ab/{KEY}/\x1b]0;t\x07",
    "a temporary file": f"runs/ab/{KEY}/{VALUE}.tmp",
}
ENTRIES = {
    "an entry that is not what its name says": ENTRY.format(path="data/raw/iris.csv"),
    "an entry with a path outside": ENTRY.format(path="../../bad"),
    "an entry with the path of git's hooks": ENTRY.format(path=".git/hooks/post-checkout"),
    "an entry that is deep": "[" * 100_000,
    "an entry with anchors": "a: &a [x]\nb: [*a, *a]\n",
    "an entry of a tag": "!!python/object/apply:os.system ['touch bad']\n",
    "an entry that is no text": "\x00\x01",
    "an entry that is large": "x" * 2_000_000,
    "an empty entry": "",
}


@pytest.fixture(scope="module")
def stand_in(clone_at: Callable[[str], Clone], stand_in_for: Callable[[Clone, str], StandIn]) -> tuple[Clone, StandIn]:  # noqa: F811
    """A clone that has pushed, and the servers that it pushed to."""
    clone = clone_at("border-bucket")
    found = stand_in_for(clone, OLD)
    configure(clone)
    clone.make("run", "push")
    clone.git("add", "--all")
    return clone, found


def put(stand_in: StandIn, key: str, content: str) -> None:
    """Put an object into the bucket, under a name that no client would give it."""
    stand_in.python(
        "import urllib.parse\n"
        f"key, content = json.loads({json.dumps(json.dumps([key, content]))})\n"
        "url = 'http://127.0.0.1:5001/dvc/' + urllib.parse.quote(key, safe='').replace('.', '%2E')\n"
        "data, kind = content.encode('latin-1'), {'Content-Type': 'application/octet-stream'}\n"
        "urllib.request.urlopen(urllib.request.Request(url, data, kind, method='PUT'), timeout=60)\n"
    )


def check_pull(clone: Clone, before: set[str]) -> None:
    done = clone.make("pull", check=False)
    assert done.returncode == 0, done.stdout
    assert "on the remote is no entry of the run-cache: it is left there" in done.stdout
    assert not POWER.search(done.stdout) and "Traceback" not in done.stdout
    assert files(clone) == before
    assert not clone.changes()


def files(clone: Clone) -> set[str]:
    """Return all files of the clone and beside it, but those of DVC's data and of this machine."""
    skipped = (".dvc/tmp", ".local")
    found = {str(path.relative_to(clone.path)) for path in clone.path.rglob("*") if path.is_file()}
    return {path for path in found if not path.startswith(skipped)} | {
        path.name for path in clone.path.parent.iterdir()
    }


@pytest.mark.parametrize(
    ("key", "content"),
    [
        *((name, "print('bad')") for name in NAMES.values()),
        # Each under a name of its own: this server, like DagsHub's, lets nobody write over an object.
        *((f"runs/ab/{KEY}/{number:064x}", text) for number, text in enumerate(ENTRIES.values())),
    ],
    ids=[*NAMES, *ENTRIES],
)
def test_somebody_puts(stand_in: tuple[Clone, StandIn], key: str, content: str) -> None:
    """`make pull` takes what it knows, says what it leaves, and nothing gets a name that the bucket chose.

    What one case puts stays there for the next one.
    """
    clone, servers = stand_in
    before = files(clone)
    put(servers, key, content)
    assert key in servers.bucket() or "\x1b" in key or "//" in key
    check_pull(clone, before)


def test_somebody_changes_data(stand_in: tuple[Clone, StandIn]) -> None:
    """Data that is not what its name says is not taken: the next run makes it again."""
    clone, servers = stand_in
    clone.edit("params.yaml", "seed: 3", "seed: 4")
    clone.make("run")
    lock = yaml.safe_load((clone.path / "dvc.lock").read_text())
    names = [
        f"files/md5/{out['md5'][:2]}/{out['md5'][2:]}" for stage in lock["stages"].values() for out in stage["outs"]
    ]
    unknown = set(names) - set(servers.bucket())
    assert unknown
    for key in unknown:
        put(servers, key, "changed")
    fresh = clone.path / ".dvc" / "cache"
    clone.make("clean")
    fresh.rename(clone.path.parent / "cache-of-the-bucket")
    done = clone.make("pull", check=False)
    assert "Traceback" not in done.stdout
    assert not any((clone.path / path).exists() and (clone.path / path).read_text() == "changed" for path in OUTPUTS)
    done = clone.make("run")
    assert stages_line(done).startswith("ran ")
    assert set(clone.changes()) <= {"params.yaml", "dvc.lock"}
