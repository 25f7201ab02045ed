"""A fork takes over a newer machinery by git alone, and keeps what is its own."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.project import ROOT, Project, UserError
from scripts.upgrading import machinery, merge, origin
from scripts.upgrading.machinery import is_machinery

RUNNER = """\
import sys
from pathlib import Path
from scripts.project import Project, UserError
from scripts.verbs import upgrade
try:
    upgrade.main(sys.argv[2:], Project(Path.cwd()))
except UserError as error:
    sys.exit(f"error: {error}")
"""
LINES = "".join(f"line {number}\n" for number in range(30))
FIRST = {
    "Makefile": LINES,
    "scripts/a.py": LINES,
    "scripts/old.py": LINES.replace("line", "old"),
    "stages/base/Dockerfile": f"FROM scratch\n{LINES}",
    "stages/README.md": LINES,
    "stages/train/train.py": "example\n",
    "tests/forks/x/apply.sh": LINES.replace("line", "apply"),
    "tests/test_a.py": LINES.replace("line", "test"),
    ".github/workflows/ci.yml": LINES.replace("line", "ci"),
    "dvc.yaml.template": 'stages:\n{{ stage("train", outputs={"out": "models/m.json"}) }}\n',
    "params.yaml": "train:\n  trees: 1\n",
    "README.md": "the example\n",
    "dvc.yaml": "stages: {}\n",
    ".gitignore": "/.local/\n",
}
SECOND = {
    "Makefile": LINES.replace("line 3\n", "line 3 of the second\n"),
    "scripts/b.py": "new\n",
    "stages/base/Dockerfile": f"FROM scratch\n{LINES.replace('line 20', 'line 20 of the second')}",
    "stages/train/train.py": "another example\n",
    "stages/ingest/ingest.py": "more of the example\n",
    "tests/forks/x/apply.sh": LINES.replace("line", "apply").replace("apply 9\n", "apply 9 of the second\n"),
    "tests/forks/y/apply.sh": "new\n",
    "tests/test_a.py": LINES.replace("line 3\n", "test 3 of the second\n"),
    "tools/new.py": "new\n",
    "params.yaml": "train:\n  trees: 2\n",
    "README.md": "the example again\n",
}
THIRD = {"scripts/a.py": LINES.replace("line 25", "line 25 of the third"), "scripts/old.py": None}


@dataclass(frozen=True)
class Repository:
    path: Path

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com", *arguments]
        return subprocess.run(command, cwd=self.path, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str, changes: dict[str, str | None]) -> str:
        """Write the files, or delete those that are None; return the commit."""
        for name, text in changes.items():
            path = self.path / name
            if text is None:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def files(self) -> dict[str, str]:
        """Return the tracked files."""
        return {name: (self.path / name).read_text() for name in self.git("ls-files").splitlines()}

    @property
    def project(self) -> Project:
        return Project(self.path)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, list[str]]:
    """The template, a repository of three versions, and their commits."""
    template = Repository(tmp_path_factory.mktemp("template"))
    template.git("init", "--quiet", "--initial-branch=main")
    host = {f"scripts/host/{name}": (ROOT / "scripts/host" / name).read_text() for name in ("upgrade.sh", "lib.sh")}
    runner = f"mkdir -p .local; exec env PYTHONPATH={shlex.quote(str(ROOT))} {sys.executable} -c {shlex.quote(RUNNER)}"
    host["scripts/host/runner.sh"] = f'{runner} "$@"\n'
    versions = (
        ("the first", FIRST | host),
        ("Do \x1b[31mmore\x1b[0m", SECOND),
        ("words only", {"README.md": "words\n"}),
    )
    commits = [template.commit(message, changes) for message, changes in (*versions, ("Mend a fault", THIRD))]
    return template.path, commits


@pytest.fixture
def template(made, tmp_path) -> Repository:
    shutil.copytree(made[0], tmp_path / "template")
    return Repository(tmp_path / "template")


@pytest.fixture
def commits(made) -> list[str]:
    return made[1]


@pytest.fixture
def cloned(template, tmp_path) -> Callable[[str], Repository]:
    """Make a fork of a version by `git clone`, with a first commit of its own; the template is fetched into it."""

    def clone(version: str) -> Repository:
        template.git("clone", "--quiet", str(template.path), str(tmp_path / "fork"))
        fork = Repository(tmp_path / "fork")
        fork.git("checkout", "--quiet", "-B", "main", version)
        fork.commit("our own stages", {"stages/train": None, "stages/fit/fit.py": "ours\n", "README.md": "ours\n"})
        return fork

    return clone


@pytest.fixture
def copied(template, tmp_path) -> Callable[..., Repository]:
    """Make a fork of a version by a copy of its files, some of which are left out, into a repository of its own."""

    def copy(version: str, without: tuple[str, ...] = ()) -> Repository:
        fork = Repository(tmp_path / "fork")
        template.git("worktree", "add", "--quiet", "--detach", str(fork.path), version)
        (fork.path / ".git").unlink()
        fork.git("init", "--quiet", "--initial-branch=main")
        own = {"stages/train/train.py": None, "stages/fit/fit.py": "ours\n", "README.md": "ours\n"}
        fork.commit("ours", own | dict.fromkeys(without))
        fork.git("fetch", "--quiet", str(template.path), "main:refs/upgrade/from")
        return fork

    return copy


def merged(fork: Repository, base: str, new: str) -> dict[str, str]:
    """Return the files of HEAD after an upgrade."""
    upgrade = merge.merge(base, new, fork.project)
    text = merge.message(upgrade, "https://x/y", fork.project)
    commit = fork.git("commit-tree", "-p", "HEAD", "-m", text, upgrade.tree)
    fork.git("merge", "--quiet", "--ff-only", commit)
    return fork.files()


# --- whose a file is


@pytest.mark.parametrize(
    ("path", "whose"),
    [
        *((path, "machinery") for path in ("Makefile", "scripts/host/lib.sh", "tests/x", ".env.example", "tools/x.py")),
        *((path, "machinery") for path in ("stages/README.md", "stages/base/tests/x.py", ".github/workflows/ci.yml")),
        *((path, "own") for path in ("README.md", "params.yaml", "dvc.yaml", "dvc.lock", "dvc.yaml.template")),
        *((path, "own") for path in ("stages/train/train.py", "stages/basement/x", "data/external/x.csv", "LICENSE")),
    ],
)
def test_whose_a_file_is(path, whose):
    """A fork's are its stages, parameters, template and README, and what comes of them; all else is the machinery's."""
    assert is_machinery(path) == (whose == "machinery")


def test_every_file_of_this_repository_is_somebodys():
    """What the machinery runs by is its own here, too: a file at the top that moves must be known to be a fork's."""
    named = ("Makefile", "Dockerfile.runner", "docker-compose.yml", "pyproject.toml", "SECURITY.md", "CONTRIBUTING.md")
    assert all((ROOT / name).exists() and is_machinery(name) for name in named)
    assert all(name.startswith(("data", "models", "metrics")) or (ROOT / name).exists() for name in machinery.OWN)


# --- where a fork comes from


@pytest.mark.parametrize("version", [0, 1, 3])
def test_the_base_of_a_clone(cloned, commits, version):
    """A fork by `git clone` is of the newest version with the machinery that it has."""
    assert origin.find(commits[3], cloned(commits[version]).project) == commits[{1: 2}.get(version, version)]


@pytest.mark.parametrize("without", [(), ("tests", ".github"), pytest.param(("Makefile",), marks=pytest.mark.deep)])
@pytest.mark.parametrize("version", [0, pytest.param(1, marks=pytest.mark.deep), 3])
def test_the_base_of_a_copy(copied, commits, version, without):
    """A fork by a copy of the files is found by these files, though some were left out."""
    fork = copied(commits[version], without)
    fork.commit("mine", {"scripts/a.py": "mine\n", "stages/base/Dockerfile": "FROM scratch\n"})
    assert origin.find(commits[3], fork.project) == commits[{1: 2}.get(version, version)]


def test_the_command_taken_over_first(copied, commits):
    """A fork from before the command, which took that over from the newer version, is of the older one still."""
    fork = copied(commits[0], ("tests", ".github"))
    newer = {"scripts/a.py": THIRD["scripts/a.py"], "scripts/b.py": "new\n", "scripts/old.py": None}
    fork.commit("the command", newer | {"Makefile": SECOND["Makefile"]})
    assert origin.find(commits[3], fork.project) == commits[0]
    assert merged(fork, commits[0], commits[3])["tools/new.py"] == "new\n"


def test_the_latest_commit_decides(copied, template, commits):
    """A version that the fork had before, and that the template went back to, is not taken for the fork's."""
    fork = copied(commits[0])
    fork.commit("by hand", {"scripts/a.py": THIRD["scripts/a.py"], "scripts/old.py": None} | only_machinery(SECOND))
    back = {name: FIRST.get(name) for name in {*SECOND, *THIRD} if is_machinery(name)}
    last = template.commit("back to the first", back)
    fork.git("fetch", "--quiet", str(template.path), "main")
    assert origin.find(last, fork.project) == commits[3]


def only_machinery(changes: dict) -> dict:
    return {name: text for name, text in changes.items() if is_machinery(name)}


def test_an_upgrade_is_the_base_of_the_next_one(cloned, commits):
    """The commit of an upgrade names the version, whatever the fork changed before and since."""
    fork = cloned(commits[0])
    fork.commit("mine", {"scripts/a.py": "mine\n" + LINES})
    merged(fork, commits[0], commits[1])
    fork.commit("mine again", {"Makefile": "mine\n"})
    assert origin.find(commits[3], fork.project) == commits[1]


def test_an_older_version_is_refused(cloned, commits):
    """What is older than the fork's own version, or another repository, is no upgrade, and is said to be none."""
    fork = cloned(commits[0])
    fork.commit("mine", {"scripts/a.py": "mine\n" + LINES})
    merged(fork, commits[0], commits[3])
    with pytest.raises(UserError, match=f"was upgraded to {commits[3][:12]}, which is not in the history of"):
        origin.find(commits[1], fork.project)


def test_no_base(copied, commits):
    """A fork that never had a version as it is must be told which it was; a commit that is not there is refused."""
    fork = copied(commits[0], ("scripts/a.py",))
    with pytest.raises(UserError, match=r"no commit of this fork has .* BASE=commit"):
        origin.find(commits[3], fork.project)
    assert origin.given(commits[0][:10], commits[3], fork.project) == commits[0]
    for name in ("HEAD", "nowhere", "--all", "a b", commits[3]):
        with pytest.raises(UserError, match="expected a commit in the history"):
            origin.given(name, commits[2], fork.project)


# --- the merge


@pytest.mark.parametrize("kind", ["clone", "copy"])
def test_what_is_brought_and_what_stays(cloned, copied, commits, kind):
    """The machinery becomes the newer one, files that it added and removed among them; what is the fork's stays."""
    fork = cloned(commits[0]) if kind == "clone" else copied(commits[0])
    own = {"notebooks/x.ipynb": "{}\n", "scripts/mine.py": "mine\n"}
    fork.commit("more of ours", own)
    before, after = fork.files(), merged(fork, commits[0], commits[3])
    expected = {name: text for name, text in before.items() if name not in THIRD or THIRD[name]}
    expected |= only_machinery(SECOND) | {name: text for name, text in THIRD.items() if text}
    assert after == expected
    assert "stages/ingest/ingest.py" not in after and after["params.yaml"] == FIRST["params.yaml"]


def test_both_edits_of_a_file_are_in_it(cloned, commits):
    """A fork's edits of the machinery, and of the base's image, are kept beside those of the newer version."""
    fork = cloned(commits[0])
    edits = {
        name: FIRST[name].replace("line 10\n", "line 10, ours\n") for name in ("Makefile", "stages/base/Dockerfile")
    }
    fork.commit("edits", edits)
    after = merged(fork, commits[0], commits[1])
    for name in edits:
        assert "line 10, ours\n" in after[name] and "of the second\n" in after[name]


@pytest.mark.parametrize(
    ("deleted", "gone"),
    [
        (["tests"], ["tests/test_a.py", "tests/forks/x/apply.sh", "tests/forks/y/apply.sh"]),
        (["tests/forks"], ["tests/forks/x/apply.sh", "tests/forks/y/apply.sh"]),
        (["tests/test_a.py", ".github"], ["tests/test_a.py"]),
        (["Makefile"], ["Makefile"]),
    ],
)
def test_what_the_fork_deleted_stays_deleted(cloned, commits, deleted, gone):
    """Files and folders that the fork deleted are not brought back, nor is what is new in such a folder; it is told."""
    fork = cloned(commits[0])
    fork.commit("without", dict.fromkeys(deleted))
    after = merged(fork, commits[0], commits[3])
    assert not [name for name in after if name.startswith(tuple(deleted))]
    assert after["scripts/b.py"] == "new\n"
    told = fork.git("log", "-1", "--format=%b")
    assert [line[2:] for line in told.partition("left out:\n\n")[2].partition("\n\n")[0].splitlines()] == sorted(gone)


@pytest.mark.parametrize("moved_to", ["stages/fit/apply.sh", "data/external/x", "params.yaml"])
def test_what_was_moved_to_the_forks_own_files_is_its_own(cloned, commits, moved_to):
    """A file of the machinery that became one of the fork's own is not changed by what is new in the machinery's."""
    fork = cloned(commits[0])
    fork.commit("ours now", {"tests/forks": None, moved_to: FIRST["tests/forks/x/apply.sh"]})
    assert merged(fork, commits[0], commits[3])[moved_to] == FIRST["tests/forks/x/apply.sh"]


@pytest.mark.parametrize(
    ("edit", "names"),
    [
        ({"Makefile": LINES.replace("line 3\n", "line 3, ours\n")}, ["Makefile"]),
        ({"scripts/old.py": "ours\n", "tools/new.py": "ours\n"}, ["scripts/old.py", "tools/new.py"]),
        ({"stages/base/Dockerfile": "FROM x\n", "params.yaml": "a:\n  b: 1\n"}, ["stages/base/Dockerfile"]),
    ],
    ids=["one line", "removed there, new on both sides", "the base"],
)
def test_a_conflict_changes_nothing(cloned, commits, edit, names):
    """Of files that cannot be merged one sentence names each, and what to do, and nothing has changed."""
    fork = cloned(commits[0])
    head = fork.commit("ours", edit)
    with pytest.raises(UserError) as told:
        merge.merge(commits[0], commits[3], fork.project)
    assert f"same lines of {', '.join(names)}; expected no conflict" in str(told.value)
    assert f"'git diff {commits[0][:12]} {commits[3][:12]} -- FILE'" in str(told.value)
    assert fork.git("rev-parse", "HEAD") == head and not fork.git("status", "--porcelain")


def test_a_conflict_is_resolved_by_hand(cloned, commits):
    """After what the sentence says (the change made, or theirs taken, and committed) there is no conflict."""
    fork = cloned(commits[0])
    fork.commit("ours", {"Makefile": LINES.replace("line 3\n", "line 3, ours\n"), "scripts/a.py": "ours\n"})
    fork.git("checkout", commits[3], "--", "Makefile")
    fork.commit("by hand", {"scripts/a.py": THIRD["scripts/a.py"].replace("line 1\n", "line 1, ours\n")})
    assert merged(fork, commits[0], commits[3])["scripts/a.py"].count("ours") == 1


def test_the_message(cloned, commits, monkeypatch):
    """The commit says what changed, one line a commit of the template that changed the machinery, and is bounded."""
    fork = cloned(commits[0])
    upgrade = merge.merge(commits[0], commits[3], fork.project)
    text = merge.message(upgrade, "https://me:token@host/x.git", fork.project)
    assert text == (
        f"Upgrade the machinery to {commits[3][:12]}\n\nFrom https://host/x.git, where these commits changed it:\n\n"
        f"- Mend a fault\n- Do ?[31mmore?[0m\n\nTemplate-Commit: {commits[3]}\n"
    )
    monkeypatch.setattr(merge, "MOST", 1)
    assert "- Mend a fault\n- and 1 more\n" in merge.message(upgrade, "/home/me/x", fork.project)
    assert "/home/me" not in merge.message(upgrade, "/home/me/x", fork.project)


def test_what_is_newer_and_left_alone(cloned, commits):
    """Files of the example that the fork has not made its own are named, and not touched."""
    fork = cloned(commits[0])
    fork.commit("as in the example", {"README.md": FIRST["README.md"], "stages/train/train.py": "example\n"})
    upgrade = merge.merge(commits[0], commits[3], fork.project)
    assert merge.left_alone(upgrade, fork.project) == ["README.md", "params.yaml", "stages/train/train.py"]
    fork.commit("ours", {"README.md": "ours\n", "params.yaml": None})
    assert merge.left_alone(upgrade, fork.project) == ["stages/train/train.py"]


def test_what_runs_again():
    """The stages whose command is another one, or new; before a dvc.yaml that is none, all of them."""
    after = "stages: {a: {cmd: 1}, b: {cmd: [2]}, c: {cmd: 3}}"
    assert merge.changed_stages("stages: {a: {cmd: 1}, b: {cmd: [1]}}", after) == ["b", "c"]
    assert all(
        merge.changed_stages(before, after) == ["a", "b", "c"] for before in ("", "<<<< {", "[1]", "stages: [a]")
    )


# --- make upgrade


def upgrade(fork: Repository, *words: str, **environ: str) -> subprocess.CompletedProcess:
    identity = {f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    found = {name: value for name, value in os.environ.items() if name != "YES"} | identity | environ
    command = ["sh", "scripts/host/upgrade.sh", *words]
    return subprocess.run(
        command, cwd=fork.path, env=found, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def ready(fork: Repository) -> Repository:
    """Give a fork a template that renders, and its dvc.yaml."""
    blocks = '{{ stage("fit", outputs={"out": "models/m.json"}) }}'
    fork.commit("our pipeline", {"dvc.yaml.template": f"stages:\n{blocks}\n", "params.yaml": "fit:\n  trees: 3\n"})
    return fork


def test_an_upgrade_is_one_commit(copied, template, commits):
    """It ends in one commit by the user, with dvc.yaml rendered, in a clean tree; a second one has nothing to do."""
    fork = ready(copied(commits[0]))
    fork.git("remote", "add", "template", str(template.path))
    head = fork.git("rev-parse", "HEAD")
    done = upgrade(fork, YES="1")
    assert done.returncode == 0, done.stdout
    assert "the next 'make run' runs fit, and what depends" in done.stdout
    assert fork.git("rev-parse", "HEAD^") == head and not fork.git("status", "--porcelain")
    assert fork.git("log", "-1", "--format=%an %(trailers:key=Template-Commit,valueonly)") == f"test {commits[3]}"
    assert "stages/fit:" in fork.files()["dvc.yaml"] and fork.files()["scripts/b.py"] == "new\n"
    again = upgrade(fork)
    assert again.returncode == 0 and "nothing to do" in again.stdout, again.stdout


def test_it_asks_first(copied, template, commits):
    """Where nobody says yes, where it comes from and what it is are shown, and nothing is changed."""
    fork = ready(copied(commits[0]))
    head = fork.git("rev-parse", "HEAD")
    done = upgrade(fork, str(template.path))
    assert done.returncode == 1 and done.stdout.splitlines()[-1].endswith("expected 'y', or YES=1 on the command line")
    assert commits[3][:12] in done.stdout and str(template.path) in done.stdout and "- Mend a fault" in done.stdout
    assert fork.git("rev-parse", "HEAD") == head and not fork.git("status", "--porcelain")


def test_what_is_refused_before_anything_is_fetched(copied, template, commits, tmp_path):
    """A dirty tree, a merge that goes on, a missing or wrong FROM: one sentence each, and nothing has changed."""
    fork = ready(copied(commits[0]))
    address = str(template.path)

    def last(*words: str) -> str:
        done = upgrade(fork, *words, YES="1")
        assert done.returncode == 1
        return done.stdout.splitlines()[-1]

    assert "'make upgrade FROM=url-or-path'" in last()
    assert "FROM is --upload-pack=x" in last("--upload-pack=x")
    assert "git cannot fetch from there" in last(str(tmp_path / "nowhere"))
    assert "BASE is 'x'" in upgrade(fork, address, "x").stdout
    (fork.path / "params.yaml").write_text("fit:\n  trees: 4\n")
    assert "changes that are not committed" in last(address)
    fork.git("checkout", "--quiet", ".")
    (fork.path / ".git" / "MERGE_HEAD").write_text(f"{commits[0]}\n")
    assert "is going on (MERGE_HEAD)" in last(address)
    (fork.path / ".git" / "MERGE_HEAD").unlink()
    (fork.path / "tools").mkdir()
    (fork.path / "tools" / "new.py").write_text("not known to git\n")
    assert last(address) == "error: nothing was changed: see above"
    assert (fork.path / "tools" / "new.py").read_text() == "not known to git\n"
    assert fork.git("log", "-1", "--format=%s") == "our pipeline"


def test_a_template_that_does_not_render(copied, template, commits):
    """The upgrade is a commit then as well, and a sentence says what is wrong and how to take it back."""
    fork = copied(commits[0])  # its template names the example's stage, which it deleted
    done = upgrade(fork, str(template.path), YES="1")
    assert done.returncode == 1 and "has no folder stages/train" in done.stdout
    assert "'git reset --keep " in done.stdout.splitlines()[-1] and not fork.git("status", "--porcelain")
    assert fork.files()["scripts/b.py"] == "new\n"
