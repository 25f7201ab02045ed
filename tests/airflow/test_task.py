"""What a task does in its clone, with a remote that is a folder and no engine."""

import hashlib
import shutil
from collections.abc import Callable

import pytest
import yaml

from scripts import transfer
from scripts.pipeline.stage import Pipeline
from scripts.project import ROOT, Project, Unavailable, UserError
from tests.unit.conftest import docker, empty_repository, project, runner  # noqa: F401

codes = pytest.importorskip("scripts.airflow.codes", reason="the room is taken out")
task = pytest.importorskip("scripts.airflow.task", reason="the room is taken out")
Make = Callable[..., None]


@pytest.fixture
def pipeline(project: Project, docker: object, monkeypatch: pytest.MonkeyPatch) -> Make:  # noqa: F811
    """Return a function that makes a pipeline in which each stage reads what the one before it writes, by commands."""
    for module in (task, transfer):
        monkeypatch.setattr(module, "PROJECT", project)
    monkeypatch.setattr(task, "_load", lambda: ({"base": None}, Pipeline("", {})))
    monkeypatch.setattr(task, "_is_local", lambda: False)
    monkeypatch.setattr(task.execution.build, "on_this_machine", dict)
    monkeypatch.setattr(task.execution.build, "claim_present", lambda wanted, here: None)
    (project.root / "x.out").write_text("x")
    (project.root / ".gitignore").write_text("*.out\n")
    project.dvc_remote.mkdir()

    def make(**commands: str) -> None:
        blocks = {
            name: {"cmd": f"{command} > {name}.out", "deps": [f"{before}.out"], "outs": [f"{name}.out"]}
            for before, (name, command) in zip(("x", *commands), commands.items(), strict=False)
        }
        project.dvc_yaml.write_text(yaml.safe_dump({"stages": blocks}, sort_keys=False))

    return make


def forget(project: Project) -> None:  # noqa: F811
    """Leave of the clone what a new one has."""
    shutil.rmtree(project.cache, ignore_errors=True)
    project.dvc_lock.unlink(missing_ok=True)
    for path in project.root.glob("?.out"):
        if path.name != "x.out":
            path.unlink()


def run(project: Project, name: str) -> None:  # noqa: F811
    """Run a stage as a task, in what is like a new clone."""
    forget(project)
    task.run_stage(name)


def test_tasks_meet_on_the_remote(pipeline: Make, project: Project, capfd: pytest.CaptureFixture) -> None:  # noqa: F811
    """Each stage runs once, in a clone of its own; what has a result is restored."""
    pipeline(a="echo a", b="cat a.out a.out", c="cat b.out")
    for name in "abc":
        run(project, name)
        assert f"{name}: ran, and pushed" in capfd.readouterr().out
        assert [path.name for path in project.root.glob("?.out")].count("a.out") == (name in "ab")
    run(project, "c")
    assert "c: restored, and pushed" in capfd.readouterr().out


def test_a_stage_before_its_time_is_refused(pipeline: Make, project: Project) -> None:  # noqa: F811
    """A stage whose inputs nobody has made ends with the code for it and the name of the stage; nothing runs."""
    pipeline(a="echo a", b="touch ran; cat a.out")
    with pytest.raises(codes.OtherStage, match=r"for b another stage would have to run: a;") as told:
        run(project, "b")
    assert told.value.code == codes.OTHER_STAGE
    run(project, "a")
    shutil.rmtree(project.dvc_remote / "files")
    with pytest.raises(codes.OtherStage, match=r"another stage would have to run: a;"):
        run(project, "b")
    assert not (project.root / "ran").exists()


def test_a_second_result_is_named(pipeline: Make, project: Project) -> None:  # noqa: F811
    """A stage that writes something else the next time is named, with its output and both hashes."""
    dice = project.root.parent / "dice"
    pipeline(a=f"cat {dice}")
    dice.write_text("1")
    run(project, "a")
    shutil.rmtree(project.dvc_remote / "files")
    dice.write_text("2")
    with pytest.raises(codes.NotDeterministic) as told:
        run(project, "a")
    new, old = (hashlib.md5(number, usedforsecurity=False).hexdigest() for number in (b"2", b"1"))
    assert "stage a is not deterministic" in str(told.value) and f"a.out ({new} and {old})" in str(told.value)
    assert told.value.code == codes.NOT_DETERMINISTIC


def test_whose_fault_it_is_shows_in_the_code(pipeline: Make, project: Project) -> None:  # noqa: F811
    """A stage that fails, or is not there, ends with 1; a remote that is no folder any more with 75."""
    pipeline(a="echo 'error: bad input'; exit 2; echo")
    for name, says in (("a", "bad input"), ("z", "there is no stage z")):
        with pytest.raises(UserError, match=says) as told:
            run(project, name)
        assert told.value.code == codes.FAULT == 1
    pipeline(a="echo a")
    shutil.rmtree(project.dvc_remote)
    project.dvc_remote.write_text("no folder")
    with pytest.raises(Unavailable) as told:
        run(project, "a")
    assert told.value.code == codes.TEMPORARY == 75


def test_a_stage_without_a_key_is_refused(pipeline: Make, project: Project) -> None:  # noqa: F811
    """DVC has no name for the result of a stage that reads nothing, so that no task could find it."""
    project.dvc_yaml.write_text(yaml.safe_dump({"stages": {"a": {"cmd": "echo a > a.out", "outs": ["a.out"]}}}))
    with pytest.raises(UserError, match="has neither inputs nor parameters"):
        run(project, "a")


@pytest.mark.parametrize("url", ["../here", "../.local/other"])
def test_a_remote_that_goes_with_the_clone_is_refused(pipeline: Make, project: Project, url: str) -> None:  # noqa: F811
    """Data that is pushed into the task's own clone would be deleted with it; what a link leads to is not."""
    main = project.root.parent / "main"
    main.mkdir()
    config = project.root / ".dvc" / "config"
    project.dvc_remote.rmdir()
    project.dvc_remote.symlink_to(main)
    task.check_remote(main)
    config.write_text(config.read_text().replace("../.local/dvc-remote", url))
    with pytest.raises(UserError, match="which is deleted with the clone of this task"):
        task.check_remote(main)


def test_the_last_task_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that is called like the last task is refused: nobody could say which one is meant."""
    monkeypatch.setattr(task.images, "load", dict)
    monkeypatch.setattr(task.template, "load", lambda images: Pipeline("", {"publish": None}))
    with pytest.raises(UserError, match="a stage is called publish"):
        task.publish("run")


def test_the_codes_are_those_of_the_script() -> None:
    """What task.sh passes on as it is are the codes of this room; all others are worth another try."""
    text = (ROOT / "scripts" / "airflow" / "task.sh").read_text()
    kept = {codes.OK, codes.NOT_DETERMINISTIC, codes.OTHER_STAGE, codes.TEMPORARY}
    assert f"\n{' | '.join(map(str, sorted(kept)))}) ;;\n" in text
    assert len(kept | {codes.FAULT}) == 5
