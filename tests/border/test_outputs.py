"""What a stage leaves as its outputs: nothing but files crosses, and each refusal says what was left where."""

import re

import pytest

from scripts.pipeline.dvc_adapter import md5
from scripts.yaml12 import load_yaml
from tests.border.conftest import Attacked
from tests.conftest import last_line

LINK = "one.unlink(); one.symlink_to({!r})"
FOLDER = "import shutil; shutil.rmtree(many); many.symlink_to({!r})"
A_LINK = "a symbolic link as made/"

HOSTILE = {
    # 1. links, and what is no file
    "a link to the settings": (LINK.format("../../.env"), f"{A_LINK}one.txt"),
    "a link to git's settings": (LINK.format("../../../../.git/config"), f"{A_LINK}one.txt"),
    "a link to a file of the host": (LINK.format("/etc/shadow"), f"{A_LINK}one.txt"),
    "a link to the socket": (LINK.format("/var/run/docker.sock"), f"{A_LINK}one.txt"),
    "a link to a process": (LINK.format("/proc/self/environ"), f"{A_LINK}one.txt"),
    "a link to nothing": (LINK.format("nowhere"), f"{A_LINK}one.txt"),
    "a link to itself": (LINK.format("one.txt"), f"{A_LINK}one.txt"),
    "a link to another output": (LINK.format("many/part"), f"{A_LINK}one.txt"),
    "a metrics file that is a link": ("scores.unlink(); scores.symlink_to('/etc/passwd')", f"{A_LINK}scores.json"),
    "a folder that is a link to /tmp": (FOLDER.format("/tmp"), f"{A_LINK}many"),
    "a folder that is a link to the clone": (FOLDER.format("../../../.."), f"{A_LINK}many"),
    "a folder that is a link to git's hooks": (FOLDER.format("../../../../.git/hooks"), f"{A_LINK}many"),
    "a link in a folder to git's hooks": ("(many / 'cache').symlink_to('../../.git/hooks')", f"{A_LINK}many/cache"),
    "a link deep in a folder": (
        "(many / 'a' / 'b').mkdir(parents=True); (many / 'a' / 'b' / 'c').symlink_to('/')",
        f"{A_LINK}many/a/b/c",
    ),
    "a hard link": ("os.link(one, many / 'same')", "a file with a second name (a hard link) as made/one.txt"),
    "a hard link to what is not taken": (
        "os.link(one, one.parent / 'other')",
        "a file with a second name (a hard link) as made/one.txt",
    ),
    "a pipe": ("one.unlink(); os.mkfifo(one)", "a named pipe as made/one.txt"),
    "a pipe in a folder": ("os.mkfifo(many / 'pipe')", "a named pipe as made/many/pipe"),
    "a socket": (
        "import socket; one.unlink(); os.chdir(one.parent); socket.socket(socket.AF_UNIX).bind('one.txt')",
        "a socket as made/one.txt",
    ),
    "a socket in a folder": (
        "import socket; os.chdir(many); socket.socket(socket.AF_UNIX).bind('s')",
        "a socket as made/many/s",
    ),
    "setuid": ("one.chmod(0o4755)", "a program that changes its user (setuid, setgid) as made/one.txt"),
    "setgid": ("one.chmod(0o2755)", "a program that changes its user (setuid, setgid) as made/one.txt"),
    "setuid in a folder": (
        "(many / 'part').chmod(0o6777)",
        "a program that changes its user (setuid, setgid) as made/many/part",
    ),
    "a sparse file": (
        "one.open('wb').truncate(3 << 30)",
        "a file of 3 GiB that is mostly holes (a sparse file) as made/one.txt",
    ),
    "a sparse file with something in it": (
        "f = one.open('wb'); f.write(b'x' * 5000); f.seek(5 << 30); f.write(b'y'); f.close()",
        "a file of 5 GiB that is mostly holes (a sparse file) as made/one.txt",
    ),
    "a sparse file in a folder": (
        "(many / 'part').open('wb').truncate(1 << 40)",
        "a file of 1.02e+03 GiB that is mostly holes (a sparse file) as made/many/part",
    ),
    # 2. code in data
    "a pipeline in a folder": (
        "(many / 'dvc.yaml').write_text('stages: {bad: {cmd: touch /tmp/bad}}')",
        "a file of DVC's or git's own as made/many/dvc.yaml",
    ),
    "an output of DVC's in a folder": (
        "(many / 'x.dvc').write_text('cmd: touch /tmp/bad')",
        "a file of DVC's or git's own as made/many/x.dvc",
    ),
    "a repository in a folder": (
        "(many / 'sub' / '.dvc').mkdir(parents=True)",
        "a file of DVC's or git's own as made/many/sub/.dvc",
    ),
    "git's repository in a folder": (
        "(many / '.git').mkdir(); (many / '.git' / 'config').write_text('[core]\\nfsmonitor = touch /tmp/bad')",
        "a file of DVC's or git's own as made/many/.git",
    ),
    "git's file in a folder": (
        "(many / '.git').write_text('gitdir: ../../.git')",
        "a file of DVC's or git's own as made/many/.git",
    ),
    "what DVC ignores": (
        "(many / '.dvcignore').write_text('*')",
        "a file of DVC's or git's own as made/many/.dvcignore",
    ),
    # names
    "a name with a line break": ("(many / 'a\\nb').write_text('')", "a name that cannot be printed as made/many/a?b"),
    "a name that moves a cursor": (
        "(many / '\\x1b]0;t\\x07').write_text('')",
        "a name that cannot be printed as made/many/?]0;t?",
    ),
    "a name that turns the text": (
        "(many / '\\u202egpj.exe').write_text('')",
        "a name that cannot be printed as made/many/?gpj.exe",
    ),
    "a name that is no text": (
        "open(os.fsencode(many) + b'/\\xff\\xfe', 'w').close()",
        "a name that cannot be printed as made/many/??",
    ),
}


@pytest.mark.docker
@pytest.mark.deep
@pytest.mark.parametrize(("code", "found"), HOSTILE.values(), ids=list(HOSTILE))
def test_a_stage_leaves(attacked: Attacked, code: str, found: str, request: pytest.FixtureRequest) -> None:
    """The run ends with a sentence that says what the stage left where; nothing of it crosses."""
    check_refused(attacked, code, found, request.node.name)


def check_refused(attacked: Attacked, code: str, found: str, name: str) -> None:
    attacked.does(f"{code}  # {name}")
    done = attacked.run()
    assert done.returncode == 2, done.stdout
    assert f"error: stage attack left {found}; expected a file, or a folder of files" in done.stdout
    assert "Traceback" not in done.stdout
    attacked.check_untouched()
    attacked.check_next_run(re.sub(r"\W", "-", name))


@pytest.mark.docker
@pytest.mark.parametrize("case", ["a link to the settings", "a pipeline in a folder"])
def test_a_stage_leaves_one_of_a_kind(attacked: Attacked, case: str) -> None:
    """As above: one link, and one file that DVC would run."""
    check_refused(attacked, *HOSTILE[case], name=f"one {case}")


LIMITS = {
    "too many bytes": ({"STAGE_OUTPUT_SIZE": "1m"}, "one.write_bytes(b'x' * 1_100_000)", "more than 0.000977 GiB"),
    "too many bytes in small files": (
        {"ATTACK_OUTPUT_SIZE": "100k"},
        "[(many / str(n)).write_bytes(b'x' * 999) for n in range(200)]",
        "more than 9.54e-05 GiB",
    ),
    "too many files": (
        {"STAGE_OUTPUT_FILES": "100"},
        "[(many / str(n)).touch() for n in range(200)]",
        "more than 100 files",
    ),
    "too many folders": (
        {"STAGE_OUTPUT_FILES": "100"},
        "[(many / str(n)).mkdir() for n in range(200)]",
        "more than 100 files",
    ),
}


@pytest.mark.docker
@pytest.mark.deep
@pytest.mark.parametrize(("limits", "code", "found"), LIMITS.values(), ids=list(LIMITS))
def test_a_stage_leaves_more_than_its_limits(
    attacked: Attacked, limits: dict[str, str], code: str, found: str, request: pytest.FixtureRequest
) -> None:
    """More files or bytes than the limits are refused; the sentence names the limit."""
    attacked.does(f"{code}  # {request.node.name}")
    done = attacked.run(**limits)
    assert done.returncode == 2, done.stdout
    assert re.search(rf"error: stage attack left {re.escape(found)} as its outputs; .* set ATTACK_OUTPUT_", done.stdout)
    attacked.check_untouched()
    attacked.check_next_run(re.sub(r"\W", "-", request.node.name))


HARMLESS = {
    "what is not declared": "(one.parent / 'dvc.yaml').write_text('stages: {bad: {cmd: touch bad}}')",
    "a link that is not declared": "(one.parent / 'cache').symlink_to('../../.git/hooks')",
    "a pipe that is not declared": "os.mkfifo(one.parent / 'pipe')",
    "a repository that is not declared": "(one.parent / '.git').mkdir(); (one.parent / '.git' / 'config').touch()",
    "files that nobody may read": "one.chmod(0); (many / 'part').chmod(0)",
    "a folder that nobody may enter": "many.chmod(0)",
    "a folder in a folder that nobody may enter": (
        "sub = many / 'sub'; sub.mkdir(); (sub / 'x').touch(); sub.chmod(0)"
    ),
    "a program": "one.chmod(0o755)",
    "a sticky folder": "many.chmod(0o1777)",
}


@pytest.mark.docker
@pytest.mark.deep
@pytest.mark.parametrize("code", HARMLESS.values(), ids=list(HARMLESS))
def test_a_stage_leaves_what_does_no_harm(attacked: Attacked, code: str, request: pytest.FixtureRequest) -> None:
    """What is not declared stays behind, and odd modes are mended: the run is right."""
    attacked.does(f"{code}  # {request.node.name}")
    done = attacked.run()
    assert done.returncode == 0, done.stdout
    made = attacked.clone.path / "made"
    assert sorted(path.name for path in made.iterdir() if path.name != ".gitignore") == [
        "many",
        "one.txt",
        "scores.json",
    ]
    assert (attacked.clone.path / "seen" / "out.txt").read_text().startswith("one part")
    attacked.check_untouched()


GOES_ON = """\
if not os.fork():
    os.setsid()
    with one.open("r+") as file, (many / "part").open("r+") as part:
        for number in range(10**9):
            for each in (file, part):
                each.seek(0)
                each.write(f"changed {number}")
                each.flush()
while not one.read_text().startswith("changed"):
    pass
"""


@pytest.mark.docker
def test_what_goes_on_writing_ends_with_its_stage(attacked: Attacked) -> None:
    """A process that a stage leaves behind, with its outputs open, changes none of them after they are taken over."""
    attacked.does(GOES_ON)
    done = attacked.run()
    assert done.returncode == 0, done.stdout
    recorded = load_yaml((attacked.clone.path / "dvc.lock").read_text())["stages"]["attack"]["outs"]
    assert [md5(attacked.clone.path / out["path"]) for out in recorded] == [out["md5"] for out in recorded]
    attacked.check_untouched()


@pytest.mark.docker
@pytest.mark.deep
def test_a_typed_stage_has_the_same_border(attacked: Attacked) -> None:
    """`dvc repro` in `make shell` refuses what `make run` refuses, and leaves nothing behind."""
    attacked.does("one.unlink(); one.symlink_to('../../.env')  # typed")
    done = attacked.clone.make("shell", stdin="dvc repro\n", check=False)
    assert "error: stage attack left a symbolic link as made/one.txt; expected a file" in done.stdout
    assert "ERROR: failed to reproduce 'attack'" in done.stdout
    assert attacked.watched() == attacked.before
    attacked.check_next_run("typed")
    assert last_line(done)
