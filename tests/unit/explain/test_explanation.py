"""`make explain` names the cause that was made, and foresees what a run then does."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.explain import report
from scripts.pipeline import dvc_adapter
from scripts.project import Project, UserError
from scripts.recovery import dvc_files
from scripts.verbs import explain as verb
from tests.unit.explain.conftest import run, tag

THEN = {
    "NOTHING": {"unchanged"},
    "RESTORE": {"restored"},
    "RUN": {"ran"},
    "WAIT": {"ran", "restored", "unchanged"},
    "NOTE": {"noted"},
}
UP_TO_DATE = {"clean": "NOTHING", "fit": "NOTHING", "score": "NOTHING"}


def edit(path, old, new):
    text = Path(path).read_text()
    assert old in text
    Path(path).write_text(text.replace(old, new))


def forget(*names):
    """Take stages out of dvc.lock."""
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    lock["stages"] = {name: entry for name, entry in lock["stages"].items() if name not in names}
    Path("dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def forget_results(name):
    """Take a stage's results out of the run-cache."""
    for entry in Path(".dvc/cache/runs").glob("*/*/*"):
        if re.search(rf"pipeline\.stage={name}\b", entry.read_text()):
            shutil.rmtree(entry.parent)


def git_checkout(path):
    subprocess.run(["git", "checkout", "--quiet", path], check=True)


def add(path):
    with dvc_adapter.repository(Path.cwd()) as repo:
        repo.add(path)


def push():
    with dvc_adapter.repository(Path.cwd()) as repo:
        dvc_adapter.push(repo)


def lose(*paths):
    """Delete files of the working tree, and all that DVC's cache has."""
    shutil.rmtree(".dvc/cache/files")
    for path in paths:
        Path(path).unlink()


SITUATIONS = {
    # what is done: what a run will do with clean, fit and score, and the causes that are named, by stage
    "nothing": (lambda: None, "NOTHING NOTHING NOTHING", {}),
    "a parameter": (
        lambda: edit("params.yaml", "depth: 3", "depth: 4"),
        "NOTHING RUN WAIT",
        {"fit": ["parameter: fit.depth: 3 -> 4"]},
    ),
    "a parameter of another type": (
        lambda: edit("params.yaml", "depth: 3", "depth: 3.0"),
        "NOTHING RUN WAIT",
        {"fit": ["parameter: fit.depth: 3 -> 3.0"]},
    ),
    "parameters deep in a section": (
        lambda: edit("params.yaml", "{layers: 2, wide: false}", "{layers: 3, wide: true}"),
        "NOTHING RUN WAIT",
        {"fit": ["parameter: fit.net.layers: 2 -> 3", "parameter: fit.net.wide: false -> true"]},
    ),
    "a parameter more, one less": (
        lambda: edit("params.yaml", "depth: 3", "deep: 3"),
        "NOTHING RUN WAIT",
        {"fit": ["parameter: fit.depth is gone; it was 3", "parameter: fit.deep is new: 3"]},
    ),
    "the order of parameters": (
        lambda: edit(
            "params.yaml", "depth: 3, net: {layers: 2, wide: false}", "net: {layers: 2, wide: false}, depth: 3"
        ),
        "NOTHING RUN WAIT",
        {"fit": ["parameter: the order of the parameters in the section fit"]},
    ),
    "a given file": (
        lambda: edit("data/given/x.csv", "1", "22"),
        "RUN WAIT WAIT",
        {"clean": ["input: data/given/x.csv, which is given, has changed: b026324c, 2 bytes -> 2fc57d6f, 3 bytes"]},
    ),
    "a given file that is gone": (
        lambda: Path("data/given/x.csv").unlink(),
        "FAIL WAIT WAIT",
        {"clean": ["input: data/given/x.csv, which is given, is not there"]},
    ),
    "an output edited by hand": (
        lambda: Path("models/m.txt").write_text("mine"),
        "NOTHING RESTORE NOTHING",
        {"fit": ["output: the output models/m.txt is not what dvc.lock recorded, as if edited by hand: "]},
    ),
    "an output of the first stage edited by hand": (
        lambda: Path("data/clean/x.csv").write_text("mine"),
        "RESTORE NOTHING NOTHING",
        {"clean": ["output: the output data/clean/x.csv is not what dvc.lock recorded, as if edited by hand: "]},
    ),
    "an output that is missing": (
        lambda: Path("scores/s.json").unlink(),
        "NOTHING NOTHING RESTORE",
        {"score": ["output: the output scores/s.json ("]},
    ),
    "an output that is missing here and in the cache": (
        lambda: lose("scores/s.json"),
        "RUN WAIT WAIT",
        {
            "clean": ["output: the output data/clean/x.csv (", "lost: what it made of this before is neither in"],
            "fit": ["output: the output models/m.txt ("],
            "score": ["output: the output scores/s.json ("],
        },
    ),
    "a fresh clone": (
        lambda: (shutil.rmtree(".dvc/cache"), *(shutil.rmtree(path) for path in ("data/clean", "models", "scores"))),
        "RUN RUN RUN",
        {
            "clean": ["output: the output data/clean/x.csv (", "lost: what it made of this before is neither in"],
            "fit": ["output: the output models/m.txt ("],
            "score": ["output: the output scores/s.json ("],
        },
    ),
    "outputs that only the remote has": (
        lambda: (push(), lose("models/m.txt", "scores/s.json", "data/clean/x.csv")),
        "RESTORE RESTORE RESTORE",
        {
            "clean": ["output: the output data/clean/x.csv ("],
            "fit": ["output: the output models/m.txt ("],
            "score": ["output: the output scores/s.json ("],
        },
    ),
    "a stage's code": (
        lambda: edit("stages/fit/fit.py", "fit", "fit it"),
        "NOTHING RUN WAIT",
        {"fit": ["code: stages/fit/fit.py (since commit "]},
    ),
    "a stage's requirements": (
        lambda: edit("stages/fit/requirements.txt", "2", "3"),
        "NOTHING RUN WAIT",
        {"fit": ["code: stages/fit/requirements.txt (since commit "]},
    ),
    "files of a stage that come, go, and become programs": (
        lambda: (
            Path("stages/fit/new.py").touch(),
            Path("stages/fit/requirements.txt").unlink(),
            Path("stages/fit/fit.py").chmod(0o755),
        ),
        "NOTHING RUN WAIT",
        {
            "fit": [
                "code: stages/fit/fit.py was of the kind file, and is of the kind executable, "
                "stages/fit/new.py is new, stages/fit/requirements.txt is gone (since commit "
            ]
        },
    ),
    "a stage's own Dockerfile": (
        lambda: Path("stages/fit/Dockerfile").write_text("FROM alpine\n"),
        "NOTHING RUN WAIT",
        {"fit": ["code: stages/fit/Dockerfile (since commit "]},
    ),
    "a stage's test": (lambda: Path("stages/fit/test_fit.py").write_text("# new"), "NOTHING NOTHING NOTHING", {}),
    "the base": (
        lambda: edit("stages/base/kit.py", "1", "2"),
        "RUN RUN RUN",
        {name: ["code: stages/base/kit.py (since commit "] for name in UP_TO_DATE},
    ),
    "the shape of all stages": (
        lambda: edit("stages/base/stage.Dockerfile", "FROM", "from"),
        "RUN RUN RUN",
        {name: ["code: stages/base/stage.Dockerfile (since commit "] for name in UP_TO_DATE},
    ),
    "a block's network": (
        lambda: edit("dvc.yaml.template", '"models/m.txt"}) }}', '"models/m.txt"}, network="internet") }}'),
        "NOTHING RUN WAIT",
        {"fit": ["block: its command in dvc.yaml: no longer --network none; now --network bridge, --env HTTP_PROXY"]},
    ),
    "a block's inputs": (
        lambda: edit("dvc.yaml.template", '{"table": "data/clean/x.csv"}', '{"rows": "data/clean/x.csv"}'),
        "NOTHING RUN WAIT",
        {"fit": ["block: its command in dvc.yaml: no longer --table data/clean/x.csv; now --rows data/clean/x.csv"]},
    ),
    "an input more": (
        lambda: edit(
            "dvc.yaml.template", '{"model": "models/m.txt"}, m', '{"model": "models/m.txt", "g": "data/given/x.csv"}, m'
        ),
        "NOTHING NOTHING RUN",
        {
            "score": [
                "input: data/given/x.csv, which is given, is a new input (b026324c, 2 bytes)",
                "block: its command in dvc.yaml: now --mount",
            ]
        },
    ),
    "an output by another name": (
        lambda: edit("dvc.yaml.template", "scores/s.json", "scores/t.json"),
        "NOTHING NOTHING RUN",
        {"score": ["block: its command in dvc.yaml: no longer --scores scores/s.json; now --scores scores/t.json"]},
    ),
    "a new stage": (
        lambda: (
            edit(
                "dvc.yaml.template",
                "artifacts:",
                '{{ stage("more", inputs={"model": "models/m.txt"}, outputs={"o": "more/o.txt"}) }}\nartifacts:',
            ),
            edit("params.yaml", "\nscore:", "\nmore: {x: 1}\nscore:"),
            Path("stages/more").mkdir(),
            Path("stages/more/more.py").touch(),
        ),
        "NOTHING NOTHING NOTHING RUN",
        {"more": ["new: dvc.lock has no entry of it"]},
    ),
    "a stage that dvc.lock has lost": (
        lambda: forget("fit"),
        "NOTHING RESTORE NOTHING",
        {"fit": ["new: dvc.lock has no entry of it"]},
    ),
    "no dvc.lock at all": (
        lambda: Path("dvc.lock").unlink(),
        "RESTORE RESTORE RESTORE",
        {name: ["new: dvc.lock has no entry of it"] for name in UP_TO_DATE},
    ),
    "a result of before": (
        lambda: (
            edit("params.yaml", "depth: 3", "depth: 4"),
            run(Project(Path.cwd())),
            edit("params.yaml", "depth: 4", "depth: 3"),
        ),
        "NOTHING RESTORE RESTORE",
        {"fit": ["parameter: fit.depth: 4 -> 3"], "score": ["input: models/m.txt, which fit makes, has changed: "]},
    ),
    "a result of before, with which nothing was done": (
        lambda: (
            edit("params.yaml", "depth: 3", "depth: 4"),
            run(Project(Path.cwd())),
            edit("params.yaml", "depth: 4", "depth: 3"),
            forget_results("score"),
        ),
        "NOTHING RESTORE RUN",
        {"fit": ["parameter: fit.depth: 4 -> 3"], "score": ["input: models/m.txt, which fit makes, has changed: "]},
    ),
    "data of dvc add": (
        lambda: (add("data/given/x.csv"), edit("data/given/x.csv", "1", "22")),
        "NOTE RUN WAIT WAIT",
        {
            "data/given/x.csv.dvc": ["output: the output data/given/x.csv is not what data/given/x.csv.dvc recorded"],
            "clean": ["input: data/given/x.csv, which is given, has changed: b026324c, 2 bytes -> 2fc57d6f, 3 bytes"],
        },
    ),
    "a part of a folder that is made": (
        lambda: (
            edit("dvc.yaml.template", '"out": "data/clean/x.csv"', '"out": "data/clean"'),
            Path("data/clean/x.csv").unlink(),
            run(Project(Path.cwd())),
            Path("data/clean/x.csv").write_text("mine"),
        ),
        "RESTORE NOTHING NOTHING",
        {"clean": ["output: the output data/clean is not what dvc.lock recorded, as if edited by hand: "]},
    ),
    "a part of a folder that only the remote has": (
        lambda: (
            edit("dvc.yaml.template", '"out": "data/clean/x.csv"', '"out": "data/clean"'),
            Path("data/clean/x.csv").unlink(),
            run(Project(Path.cwd())),
            push(),
            lose("data/clean/x.csv"),
        ),
        "RESTORE WAIT WAIT",
        {
            "clean": ["output: the output data/clean is not what dvc.lock recorded, as if edited by hand: "],
            "fit": ["output: the output models/m.txt ("],
            "score": ["output: the output scores/s.json ("],
        },
    ),
    "an input more, which is restored": (
        lambda: (
            edit(
                "dvc.yaml.template",
                '{"model": "models/m.txt"}, m',
                '{"model": "models/m.txt", "t": "data/clean/x.csv"}, m',
            ),
            run(Project(Path.cwd())),
            git_checkout("dvc.lock"),
            Path("data/clean/x.csv").unlink(),
        ),
        "RESTORE NOTHING RESTORE",
        {
            "clean": ["output: the output data/clean/x.csv ("],
            "score": [
                "input: data/clean/x.csv, which clean makes, is a new input (",
                "block: its command in dvc.yaml: now --mount",
                "output: the output scores/s.json is not what dvc.lock recorded, as if edited by hand: ",
            ],
        },
    ),
    "a folder that is given": (
        lambda: (
            edit("dvc.yaml.template", "data/given/x.csv", "data/given"),
            run(Project(Path.cwd())),
            Path("data/given/y.csv").write_text("2"),
        ),
        "RUN WAIT WAIT",
        {"clean": ["input: data/given, which is given, has changed: "]},
    ),
    "several causes": (
        lambda: (
            edit("params.yaml", "depth: 3", "depth: 4"),
            edit("stages/fit/fit.py", "fit", "fit it"),
            edit("dvc.yaml.template", '"models/m.txt"}) }}', '"models/m.txt"}, env=["TOKEN"]) }}'),
            Path("models/m.txt").unlink(),
        ),
        "NOTHING RUN WAIT",
        {
            "fit": [
                "parameter: fit.depth: 3 -> 4",
                "code: stages/fit/fit.py (since commit ",
                "block: its command in dvc.yaml: now --env TOKEN",
                "output: the output models/m.txt (",
            ]
        },
    ),
}


SIBLINGS = {
    "a parameter of another type",
    "parameters deep in a section",
    "a parameter more, one less",
    "an output of the first stage edited by hand",
    "files of a stage that come, go, and become programs",
    "a stage's own Dockerfile",
    "a stage's test",
    "the shape of all stages",
    "an input more",
    "an output by another name",
    "no dvc.lock at all",
    "a folder that is given",
    "a part of a folder that only the remote has",
    "a result of before",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.deep] if name in SIBLINGS else []) for name in SITUATIONS]
)
def test_the_cause_is_the_one_that_was_made(clone, explain, name):
    """Each kind of change is named, alone or with others, and a run does with each stage what was foreseen."""
    change, will, causes = SITUATIONS[name]
    change()
    found = explain()
    assert " ".join(found.will.values()) == will
    assert {stage: len(each) for stage, each in found.causes.items() if each} == {
        stage: len(each) for stage, each in causes.items()
    }, found.causes
    for stage, texts in causes.items():
        for cause, text in zip(found.causes[stage], texts, strict=True):
            assert cause.startswith(text), found.causes
    assert bool(report.would_run(found.found)) == bool({"RUN", "WAIT", "FAIL"} & set(found.will.values()))
    if "FAIL" in will:
        with pytest.raises(AssertionError, match="No such file"):
            run(clone)
    else:
        did = run(clone)
        assert {stage: did[stage] in THEN[each] for stage, each in found.will.items()} == dict.fromkeys(
            found.will, True
        ), did
        assert set(explain().will.values()) == {"NOTHING"}


# --- what is asked for, and how it is said


def test_one_stage_and_what_it_depends_on(clone, explain):
    """A name leaves out the stages after it, but the one that scores its model, which a run of it runs too."""
    assert list(explain("clean").will) == ["clean"]
    assert list(explain("fit").will) == ["clean", "fit", "score"]
    with pytest.raises(UserError, match="there is no stage x; expected one of clean, fit, score"):
        explain("x")


def test_a_person_reads_what_happens_and_why(clone, explain):
    """Each stage has a line, with its causes below; the last line says what would run, and what may."""
    edit("params.yaml", "depth: 3", "depth: 4")
    assert explain().lines == [
        "clean  up to date",
        "fit    will run",
        "         parameter: fit.depth: 3 -> 4",
        "score  waits for fit, which will run: then it runs if that makes something else than before",
        "",
        "would run: fit; may run: score",
    ]


def test_what_is_restored_does_not_run(clone, explain):
    """A stage that is restored says where from, and counts as nothing to run."""
    Path("scores/s.json").unlink()
    found = explain()
    assert found.lines[2] == "score  will be restored from DVC's cache, by dvc.lock"
    assert found.lines[-1] == "nothing would run; 1 of 3 stages would be restored"
    assert report.would_run(found.found) == []


def test_a_stage_that_is_certain_to_run_is_no_maybe(clone, explain):
    """Of a stage that has never run like this, it is said that it will run, also if another one runs before it."""
    edit("params.yaml", "depth: 3", "depth: 4")
    edit("params.yaml", "digits: 6", "digits: 7")
    found = explain()
    assert found.will["score"] == "RUN"
    assert found.lines[3] == "score  will run after fit, which will run"
    assert found.causes["score"] == ["parameter: score.digits: 6 -> 7"]


def test_a_program_reads_json(clone, explain):
    """The same as JSON: a stage each, with what will happen, where from, what it waits for and why."""
    edit("params.yaml", "depth: 3", "depth: 4")
    read = json.loads(report.as_json(explain().found))
    assert read["would_run"] == ["fit", "score"]
    assert read["stages"][1] == {
        "name": "fit",
        "will": "run",
        "from": None,
        "waits_for": [],
        "causes": [{"kind": "parameter", "text": "fit.depth: 3 -> 4"}],
    }
    assert [each["will"] for each in read["stages"]] == ["nothing", "run", "wait"]
    assert read["stages"][2]["waits_for"] == ["fit"]


# --- code


def test_the_commit_is_found_in_history(clone, git_in, explain):
    """Of code that was committed since, the commit that dvc.lock ran is named, and what differs from that."""
    first = git_in("rev-parse", "HEAD").strip()
    for text in ("two", "three"):
        Path("stages/fit/fit.py").write_text(text)
        git_in("commit", "--all", "--quiet", "--message", text)
    recorded, now = re.search(r"stages/fit:(\w{12})", Path("dvc.lock").read_text())[1], tag(clone, "fit")
    assert explain().causes["fit"] == [f"code: stages/fit/fit.py (since commit {first[:8]}; image {recorded} -> {now})"]


def test_code_that_was_never_committed_is_said_to_be(clone, git_in, explain):
    """If no commit gives the recorded image, that is said, with what is not committed now."""
    Path("stages/fit/fit.py").write_text("tried, never committed")
    run(clone)
    Path("stages/fit/fit.py").write_text("another try")
    (cause,) = explain().causes["fit"]
    assert "gives the recorded one: it ran with changes that were never committed, or on another branch; " in cause
    assert cause.endswith("not committed now: stages/fit/fit.py")


# --- what else a run finds


def test_a_lock_that_was_cut_off_counts_as_what_recovery_makes_of_it(clone, explain, capsys):
    """After a kill, what is explained is the run after recovery; that it was a kill is said."""
    dvc_files.keep_dvc_lock(clone)
    text = clone.dvc_lock.read_text()
    clone.dvc_lock.write_text(text[: len(text) // 2])
    clone.rwlock.write_text('{"write": {"x": {"pid": 1, "cmd": "dvc"}}')
    assert explain(ended_well=False).will == UP_TO_DATE
    assert capsys.readouterr().err.startswith("note: the last command here did not end well: ")


def test_a_remote_that_does_not_answer_is_a_note(clone, explain, capsys, monkeypatch):
    """What only a broken remote has counts as not there, as in a run; the remote is asked once."""
    asked = []
    monkeypatch.setattr("scripts.transfer.contact", lambda remote: asked.append(1) or 1 / 0)
    monkeypatch.setattr("scripts.transfer.FAULTS", (ZeroDivisionError,))
    lose("scores/s.json", "models/m.txt", "data/clean/x.csv")
    assert explain().will["clean"] == "RUN"
    assert "note: DVC's remote did not do what was asked (division by zero), so " in capsys.readouterr().err
    assert asked == [1]


def test_a_conflict_in_dvc_lock_is_a_users_mistake(clone, explain):
    """What would end a run before it begins ends an explanation, with the same sentence."""
    clone.dvc_lock.write_text("<<<<<<< HEAD\n" + clone.dvc_lock.read_text())
    with pytest.raises(UserError, match=r"dvc\.lock is damaged, or a merge left it with conflicts"):
        explain()


def test_without_a_dvc_yaml_nothing_is_claimed(clone, explain):
    """DVC sees no stage without a dvc.yaml: that is no clone in which nothing would run."""
    clone.dvc_yaml.unlink()
    with pytest.raises(UserError, match=r"dvc\.yaml is not there; expected .*: call 'make setup-dvc' first"):
        explain()


# --- the verb


def test_the_exit_code_says_whether_a_stage_would_run(clone, capsys):
    """0 if none would, what is restored included; 1 if one would, or might: as CI asks."""
    assert verb.main(["stage=", "json="], clone) == 0
    Path("scores/s.json").unlink()
    assert verb.main([], clone) == 0
    edit("params.yaml", "digits: 6", "digits: 7")
    capsys.readouterr()
    assert verb.main(["stage=score", "json=1"], clone) == 1
    assert json.loads(capsys.readouterr().out)["would_run"] == ["score"]
    assert verb.main(["stage=clean", "json=0"], clone) == 0


@pytest.mark.parametrize("word", ["yes", "true", "2", " 1"])
def test_json_is_asked_for_by_1(clone, word):
    """Another word is refused, so that no program waits for JSON and gets lines."""
    with pytest.raises(UserError, match=rf"^JSON is '{word}'; expected 1 for JSON, or nothing"):
        verb.main(["stage=", f"json={word}"], clone)
