"""What CI does with a pull request: it runs the pipeline of the base and of the branch, and says what changes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.project import ROOT
from tests.conftest import NOTHING, Clone
from tests.unit.conftest import GIT

MAKE = """\
#!/bin/sh
echo "$(cat which) $*; registry=${MLFLOW_TRACKING_URI:-}${DAGSHUB_TOKEN:-} remote=${DVC_REMOTE_URL:-}" >> "$LOG"
case "$* $(cat which)" in
"pull "*) echo 'error: 3 of 3 outputs are not on the remote' ; exit "$PULL" ;;
"run main") exit "$BASE_RUN" ;;
"run branch") echo 'error: fit: it is wrong'; echo changed > which; exit "$RUN" ;;
*report*) printf '**worse**: it is\\n\\n### Plots that change\\n\\n![x](plots/x.png)\\n' ;;
esac
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Return a function that calls .ci/pipeline in a clone with a main and a branch; its `make` does nothing.

    It gives the exit code, the calls of make, and the summary.
    """
    root, log = tmp_path / "clone", tmp_path / "log"
    shutil.copytree(ROOT / ".ci", root / ".ci")
    shutil.copytree(ROOT / "scripts/host", root / "scripts/host")
    (root / "scripts/report").mkdir()
    for name in ("main", "branch"):
        (root / "which").write_text(name)
        for command in ("init --quiet", f"checkout --quiet -B {name}", "add --all", f"commit --quiet -m {name}"):
            subprocess.run([*GIT, *command.split()], cwd=root, check=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/make").write_text(MAKE)
    (tmp_path / "bin/make").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def call(*arguments, **variables):
        environ = os.environ | {"LOG": str(log), "PULL": "0", "BASE_RUN": "0", "RUN": "0"}
        environ |= {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary")} | variables
        done = subprocess.run(
            [root / ".ci/pipeline", *arguments], cwd=root, env=environ, capture_output=True, text=True
        )
        texts = [path.read_text() if path.exists() else "" for path in (log, tmp_path / "summary")]
        return done, texts[0].splitlines(), texts[1]

    call.root = root
    return call


def test_a_job_in_order(job):
    """The base is run before the branch, and both before the report, which alone may see the registry."""
    done, calls, summary = job("main", DAGSHUB_TOKEN="t", MLFLOW_TRACKING_URI="https://example.com/a/b.mlflow")
    assert done.returncode == 0, done.stderr
    alone, asks = "; registry= remote=s3://dvc", "; registry=https://example.com/a/b.mlflowt remote="
    assert calls == [
        *(f"main {verb}{alone}" for verb in ("pull", "run")),
        *(f"branch {verb}{alone}" for verb in ("pull", "run")),
        *(f"changed {words}{asks}" for words in ("plots", "-s report BASE=main MD=1")),
    ]
    assert (
        summary.splitlines()[0] == "**worse**: it is" and "![" not in summary and "report.md of the artifact" in summary
    )
    assert subprocess.run([*GIT, "branch", "--show-current"], cwd=job.root, capture_output=True).stdout == b"branch\n"


def test_a_job_without_secrets(job):
    """What could not be fetched is run, and said; that the base's run failed is said too, and fails nothing."""
    done, calls, summary = job("main", PULL="2", BASE_RUN="2")
    assert done.returncode == 0 and len(calls) == 6
    assert "- what DVC's remote might have of main: 3 of 3 outputs are not on the remote" in summary
    assert "- the run of main itself, which failed" in summary


def test_a_branch_whose_run_fails(job):
    """The job fails as the run does, after its report was written."""
    done, _, summary = job("main", RUN="2")
    assert done.returncode == 2 and summary.startswith("**worse**")


def test_a_push(job):
    """Without a base the pipeline is run alone."""
    done, calls, _ = job("")
    assert done.returncode == 0 and [call.partition(";")[0] for call in calls][:2] == ["branch pull", "branch run"]


@pytest.mark.parametrize("case", ["changed", "dotenv", "base"])
def test_what_is_refused(job, case):
    """Changes that would be lost, a server to which each run would publish, and a base that is none: nothing is run."""
    if case == "changed":
        (job.root / "which").write_text("other")
    if case == "dotenv":
        (job.root / ".env").write_text("MLFLOW_TRACKING_URI=https://example.com\n")
    done, calls, _ = job("no-such" if case == "base" else "main")
    assert done.returncode == 1 and not calls and done.stderr.startswith("error: ") and "; expected" in done.stderr


# --- on the real engine


def steps() -> list[dict]:
    """Return the steps of the workflow's job that have a command."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    return [step for step in workflow["jobs"]["pipeline"]["steps"] if "run" in step]


def run_steps(clone: Clone, folder: Path, **secrets: str) -> tuple[str, str]:
    """Run the steps one by one, as GitHub does; return what they print, and the summary."""
    printed, summary = [], folder / "summary"
    for step in steps():
        names = dict.fromkeys(step.get("env", {}), "")
        environ = os.environ | names | {"BASE": "origin/main", "GITHUB_STEP_SUMMARY": str(summary)} | secrets
        command = step["run"].replace("/tmp/images", str(folder))
        done = subprocess.run(
            ["bash", "-e", "-c", command], cwd=clone.path, env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        printed.append(done.stdout)
    return "".join(printed), summary.read_text()


@pytest.mark.docker
@pytest.mark.deep
def test_the_steps_of_the_workflow(clone_at, tmp_path):
    """From a clone without secrets all is run, and the summary says that the branch is worse; from one whose remote has
    the results no stage runs, and the summary is the same but for what was left out."""
    author, fork, ours = (clone_at(f"ci-{name}") for name in ("author", "fork", "ours"))
    remote = author.path.parent / "ci-remote"
    remote.mkdir()
    for name, depth in (("main", "null"), ("work", "2")):
        author.git("checkout", "--quiet", "-B", name)
        author.edit("params.yaml", "max_depth: null", f"max_depth: {depth}")
        author.make("run-push", DVC_REMOTE_URL=str(remote))
        author.git("add", "--all")
        author.git("commit", "--quiet", "--allow-empty", "--message", name)
    found = {}
    for clone, secrets in ((fork, {}), (ours, {"DVC_REMOTE_URL": str(remote)})):
        clone.git("fetch", "--quiet", str(author.path), "+refs/heads/*:refs/remotes/origin/*")
        clone.git("checkout", "--quiet", "--force", "--detach", "origin/work")
        found[clone] = run_steps(clone, tmp_path / clone.path.name, **secrets)
        assert found[clone][1].startswith("**worse**: ") and "not better than production" in found[clone][1]
        assert (clone.path / ".local/branch/report.md").exists() and (clone.path / "dvc_plots/index.html").exists()
    assert [found[clone][0].count(NOTHING) for clone in (fork, ours)] == [0, 2]
    assert ["### Left out by this job" in found[clone][1] for clone in (fork, ours)] == [True, False]
    assert (tmp_path / "ci-fork/images.tar").stat().st_size > 10_000_000
