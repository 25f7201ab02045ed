"""`make report BASE=` says whether a branch makes a model better or worse, or breaks, and what it changes."""

import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import pytest
import requests
import yaml

from scripts.explain import explanation
from scripts.pipeline import dvc_adapter, template
from scripts.pipeline.dvc_adapter import Forecast, Will
from scripts.project import ROOT, Project, UserError
from scripts.registry import reader, recorded, scoring
from scripts.registry.records import DIGEST, State, Version
from scripts.report import branch, history, pull_request, verdicts
from scripts.report.verbs import report_base
from tests.unit.conftest import GIT

TEMPLATE = """\
stages:
{{ stage("fit", inputs={"table": "data/x.csv"}, outputs={"model": "models/m.txt"}) }}
{{ stage("score", inputs={"model": "models/m.txt", "test": "data/t.csv"}, outputs={"rows": "scores/rows.csv"},
         metrics={"scores": "scores/s.json"}, plots={"curve": "scores/curve.csv"}) }}
artifacts:
{{ model("iris", file="models/m.txt", metrics="scores/s.json", rows="scores/rows.csv") }}
plots:
- scores/curve.csv: {x: fpr, y: tpr, title: A curve}
"""
PARAMS = """\
fit: {depth: 3}
score: {digits: 6}
mlflow: {experiment: e}
promotion: {metric: accuracy, higher_is_better: true, range: [0, 1]}
"""
FILES = {
    "dvc.yaml.template": TEMPLATE,
    "params.yaml": PARAMS,
    ".gitignore": "/data/\n/models/\n/scores/\n.local/\n",
    **{f"stages/base/{name}": "FROM base\n" for name in ("Dockerfile", "stage.Dockerfile")},
    **{f"stages/{name}/{name}.py": f"# {name}\n" for name in ("fit", "score")},
}
INPUTS = {"data/x.csv": "1\n", "data/t.csv": "2\n"}


class Branch:
    """A clone whose HEAD has a model that is right on 8 of 10 rows."""

    def __init__(self, root):
        self.project, self.root = Project(root), root

    def begin(self):
        self.write(FILES | INPUTS)
        self.make(hits=8)
        self.commit()

    def write(self, files):
        for name, content in files.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_text(content)

    def commit(self):
        for command in (["add", "--all"], ["commit", "--quiet", "--message", "all"]):
            subprocess.run([*GIT, *command], check=True, cwd=self.root)

    def make(self, hits, depth=3, **others):
        """Write what a run would: outputs, DVC's cache, dvc.lock."""
        self.write({"params.yaml": PARAMS.replace("3", str(depth))})
        rows = "".join(f"{int(row < hits)}\n" for row in range(10))
        scores = {"accuracy": hits / 10, "loss": 1 / hits} | others
        made = {
            "models/m.txt": f"{hits} {depth}",
            "scores/rows.csv": f"score\n{rows}",
            "scores/s.json": json.dumps(scores),
            "scores/curve.csv": f"fpr,tpr\n0,0\n0.1,{hits / 10}\n1,1\n",
        }
        self.write(made)
        md5 = {path: dvc_adapter.md5(self.root / path) for path in [*made, *INPUTS]}
        for path in made:
            cached = self.root / ".dvc/cache/files/md5" / md5[path][:2] / md5[path][2:]
            cached.parent.mkdir(parents=True, exist_ok=True)
            cached.write_bytes((self.root / path).read_bytes())
        pipeline, params, stages = template.load(self.root), yaml.safe_load((self.root / "params.yaml").read_text()), {}
        for stage in pipeline.stages.values():
            files = {"deps": [*stage.inputs.values()], "outs": [*stage.written.values()]}
            listed = {kind: [{"path": path, "md5": md5[path]} for path in paths] for kind, paths in files.items()}
            section = {"params.yaml": {stage.name: params[stage.name]}}
            stages[stage.name] = {"cmd": f"docker run {stage.image}", "params": section, **listed}
        self.write({"dvc.lock": yaml.safe_dump({"schema": "2.0", "stages": stages})})


@pytest.fixture
def stale(monkeypatch):
    """Return the stages that would run, and why; a test adds some."""
    found = {}

    def explain(project, targets, *, ended_well):
        causes = {name: [SimpleNamespace(kind="code", text=why)] for name, why in found.items()}
        return [(Forecast(name, Will.RUN), causes[name]) for name in found]

    monkeypatch.setattr(explanation, "explain", explain)
    return found


@pytest.fixture
def registry(monkeypatch):
    """Return a list, of the versions that the registry has: empty it is away."""
    versions = []

    def read(model):
        if not versions:
            raise requests.ConnectionError("Connection refused")
        return State.of(versions, {}, {})

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://example.com/mlflow")
    monkeypatch.setattr(reader, "read", read)
    return versions


@pytest.fixture(scope="module")
def begun(empty_repository, tmp_path_factory):
    """Return a clone to be copied."""
    root = tmp_path_factory.mktemp("begun") / "clone"
    shutil.copytree(empty_repository, root)
    Branch(root).begin()
    return root


@pytest.fixture
def clone(begun, stale, registry, tmp_path, monkeypatch):
    shutil.copytree(begun, tmp_path / "clone")
    monkeypatch.chdir(tmp_path / "clone")
    return Branch(tmp_path / "clone")


def look(clone, base="HEAD"):
    """Return what `make report BASE=` finds, and its Markdown."""
    with branch.against(clone.project, base, ended_well=True) as (found, _, _):
        return found, pull_request.markdown(found)


@pytest.mark.parametrize(
    ("hits", "first"),
    [
        (7, "**worse**: iris: its accuracy is 0.7, that of HEAD is 0.8 (p = 1 on 10 rows)"),
        (10, "**better**: iris: its accuracy is 1, that of HEAD is 0.8 (p = 0.5 on 10 rows)"),
        (8, "**unchanged**: iris: its accuracy is 0.8, that of HEAD is 0.8"),
    ],
)
def test_a_branch_that_moves_the_score(clone, hits, first):
    """The first line says so, and how sure it is; the gate's verdict, what changed, and intervals are below."""
    clone.make(hits, depth=4)
    found, said = look(clone)
    assert said.splitlines()[0].replace("\\", "") == first
    assert r"| fit | parameter fit\.depth: 3 \-&gt; 4 |" in said and r"| fit\.depth | 3 | 4 |" in said
    accuracy = next(each for each in found["metrics"] if each["name"] == "accuracy")
    assert (accuracy["base"], accuracy["value"]) == (0.8, hits / 10)
    assert accuracy["base_interval"] == pytest.approx([0.49, 0.943], abs=0.001)
    stage = "would go to Production" if hits == 10 else "would stay in Staging"
    assert stage in said and "With the model of HEAD for production" in said


def test_parameters_that_come_and_go(clone):
    """A value of null is one; one that only one side has is none on the other."""
    params = (clone.root / "params.yaml").read_text()
    clone.write({"params.yaml": params.replace("fit: {depth: 3}", "fit: {depth: null, width: 1}")})
    found, said = look(clone)
    assert found["params"] == [
        {"name": "fit.depth", "base": "3", "value": "null"},
        {"name": "fit.width", "base": None, "value": "1"},
    ]
    assert r"| fit\.width | none | 1 |" in said


def test_a_branch_that_changes_nothing(clone):
    """It is unchanged, and no stage, no parameter and no plot is listed."""
    found, said = look(clone)
    assert said.startswith("**unchanged**: iris: its accuracy is 0\\.8, and the model is that of HEAD")
    assert not found["stages"] and not found["params"] and "### Plots" not in said and "### Stages" not in said


def test_a_branch_that_breaks_a_stage(clone, stale):
    """The first line has the sentence of the run that failed; numbers that are of older code are not shown."""
    clone.write({"stages/fit/fit.py": "# broken\n"})
    pipeline = template.load(clone.root)
    stale |= {"fit": "stages/fit/fit.py", "score": "after fit"}
    said = look(clone)[1]
    assert said.startswith("**not run**: fit, score would run") and "### Metrics" not in said

    place = history.begin(clone.project)
    params = [
        {"name": f"{name}.{key}", "value": value}
        for name, key, value in (("fit", "depth", "3"), ("score", "digits", "6"))
    ]
    stages = [
        {"name": name, "image": stage.image, "result": "not run", "sentence": ""}
        for name, stage in pipeline.stages.items()
    ]
    stages[0] |= {"result": "failed", "sentence": "it crashed <b>"}
    run = {"schema": 1, "id": place.name, "outcome": "failed", "error": "", "stages": stages, "params": params}
    history.write(place, run, "")
    found, said = look(clone)
    assert said.splitlines()[0] == "**breaks**: fit: it crashed &lt;b&gt;"
    assert {"name": "fit", "why": ["it has not run", "code: stages/fit/fit.py"]} in found["stages"]

    clone.write({"stages/fit/fit.py": "# mended\n"})
    assert look(clone)[1].startswith("**not run**")


@pytest.mark.parametrize("scores", ["{}", '{"accuracy": NaN}', '{"accuracy": 7}', "[", ""])
def test_a_model_that_cannot_be_scored(clone, scores):
    """A metric that is missing, no number, or out of range breaks."""
    clone.make(8, depth=4)
    clone.write({"scores/s.json": scores})
    found, said = look(clone)
    assert said.startswith("**breaks**: iris cannot be scored: ")
    json.dumps(found, allow_nan=False)


def test_a_pipeline_that_cannot_be_read(clone):
    """It breaks, in the words of the error."""
    clone.write({"params.yaml": "fit: 3\n"})
    assert look(clone)[1].startswith("**breaks**: params\\.yaml: the section fit is 3")


def test_another_scorer(clone):
    """Scores of two scorers say nothing of each other: neither better nor worse is said, nor by the gate."""
    clone.write({"stages/score/score.py": "# other\n"})
    clone.make(10)
    said = look(clone)[1]
    assert said.startswith("**differs**: ") and "by another scorer or on other data" in said.splitlines()[0]
    assert "would go to" not in said


def test_the_base_is_fetched(clone):
    """What DVC's cache lacks comes from the remote; what that lacks too is said to be left out."""
    digest = dvc_adapter.md5(clone.root / "scores/s.json")
    cached = clone.root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    data = cached.read_bytes()
    clone.make(10, depth=4)
    cached.unlink()
    found, said = look(clone)
    assert said.startswith("**differs**: ") and "scores/s.json" in "".join(found["left_out"])
    there = clone.root / ".local/dvc-remote/files/md5" / digest[:2] / digest[2:]
    there.parent.mkdir(parents=True)
    there.write_bytes(data)
    found, said = look(clone)
    assert said.startswith("**better**: ") and "scores/s.json" not in "".join(found["left_out"])


def test_commits_that_the_branch_lacks(clone):
    """It is said that the base went on, since its changes are in the tables too."""
    subprocess.run([*GIT, "branch", "old"], check=True, cwd=clone.root)
    clone.make(10, depth=4)
    clone.commit()
    subprocess.run([*GIT, "branch", "--force", "main2"], check=True, cwd=clone.root)
    subprocess.run([*GIT, "checkout", "--quiet", "old"], check=True, cwd=clone.root)
    clone.make(8)
    found, said = look(clone, "main2")
    assert found["base"]["behind"] == 1 and "which has 1 commits that are not here" in said
    assert said.startswith("**worse**")


@pytest.mark.parametrize("name", ["no-such-branch", "--help", "HEAD:params.yaml", "a b", "\x1b[2J"])
def test_a_base_that_is_none(clone, name):
    """It gets a sentence."""
    with pytest.raises(UserError, match=r"BASE is .* names no commit here; expected one, as in .*: 'git fetch'"):
        look(clone, name)


# --- the registry


def scored_by(clone):
    pipeline = template.load(clone.root)
    return scoring.scored_by(
        pipeline, pipeline.models[0], yaml.safe_load((clone.root / "dvc.lock").read_text())["stages"]
    )


@pytest.mark.parametrize(
    ("score", "alike", "sentence"),
    [
        ("0.9", True, "it would go to Production: better than production: its accuracy 1 against 0.9 of version 1"),
        ("1.0", True, "it would stay in Staging: not better than production: its accuracy 1 against 1 of version 1"),
        ("0.9", False, f"production's version 1 cannot be scored: {verdicts.OTHER_MEASURE}"),
        ("x", True, "its tag accuracy is 'x', not a number"),
    ],
)
def test_the_model_in_production(clone, registry, score, alike, sentence):
    """The gate's verdict is of its score there, if the same scorer measured it on the same data; nothing is written."""
    clone.make(10, depth=4)
    tags = {"accuracy": score, DIGEST: "0", "decision": "Production"} | (scored_by(clone).as_tags() if alike else {})
    registry.append(Version(1, "Production", "run", tags))
    (said,) = look(clone)[0]["models"][0]["gate"]
    assert said.startswith("Against production it ") and sentence in said


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([0.0] * 10, "it would go to Production: better than production: .* p = 0.002"),
        (
            [1.0] * 9 + [0.0],
            "it would stay in Staging: not surely better than production: .* p = 1, at most 0.1 required",
        ),
        (None, "cannot be scored: it was measured by another scorer or on other data"),
    ],
)
def test_a_gate_that_compares_rows(clone, registry, monkeypatch, rows, sentence):
    """The scores of production's rows are those that its run has; without them nothing is compared."""

    def fetch(version, path, folder):
        if rows is not None:
            (folder / "rows.json").write_text(json.dumps(rows))
        return folder / "rows.json" if rows is not None else None

    monkeypatch.setattr(recorded, "fetch", fetch)
    clone.make(10, depth=4)
    clone.write({"params.yaml": (clone.root / "params.yaml").read_text().replace("1]", "1], confidence: 0.9")})
    tags = {"accuracy": "0.5", DIGEST: "0", "decision": "Production"} | scored_by(clone).as_tags()
    registry.append(Version(1, "Production", "run", tags))
    (said,) = look(clone)[0]["models"][0]["gate"]
    assert re.search(sentence, said)


def test_a_model_that_is_published_already(clone, registry):
    """The decision that was made is what is said."""
    clone.make(10, depth=4)
    pipeline = template.load(clone.root)
    digest = verdicts.sha256(clone.root / pipeline.models[0].file)
    tags = {
        DIGEST: digest,
        "decision": "Staging",
        "reason": "not better",
        "decision_record": '{"turn": 1, "champion": 1}',
    }
    registry.append(Version(2, "Staging", "run", tags))
    assert look(clone)[0]["models"][0]["gate"] == ["The registry has it as version 2: Staging: not better"]


def test_a_registry_that_is_away(clone):
    """That is said to be left out; the model of the base stands in for that in production."""
    clone.make(10, depth=4)
    found, said = look(clone)
    assert "does not say what is in production" in found["left_out"][0] and "### Left out" in said
    assert found["models"][0]["gate"][0].startswith("With the model of HEAD for production's it would go to Production")


# --- the files


def test_what_make_report_leaves(clone, capsys):
    """Markdown and pictures of the plots that differ lie beside each other; MD=1 and JSON=1 print them."""
    clone.make(10, depth=4)
    report_base.main(["base=HEAD", "run=", "live=", "json=", "md=1"], clone.project)
    said = capsys.readouterr().out
    folder = clone.root / ".local/branch"
    assert (folder / "report.md").read_text() == said
    links = [part.partition(")")[0] for part in said.split("](")[1:]]
    assert len(links) == 2 and all((folder / link).read_bytes().startswith(b"\x89PNG") for link in links)
    report_base.main(["base=HEAD", "json=1"], clone.project)
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["words"][0]["word"] == "better" and found["plots"][0]["title"] == "A curve"
    report_base.main(["base=HEAD"], clone.project)
    assert capsys.readouterr().out == f"{folder / 'report.md'}\n"
    with pytest.raises(UserError, match="RUN is given beside BASE"):
        report_base.main(["base=HEAD", "run=2026"], clone.project)


@pytest.mark.parametrize("text", ["a | b", "<script>x</script>", "[a](https://x.test)", "@all", "n" * 9999])
def test_a_strangers_words(clone, text):
    """Names and values are text in the Markdown, and no length is too much."""
    clone.write({"params.yaml": PARAMS + "x: 1\n"})
    clone.make(10, depth=4, **{text: 1.0, "lost": float("nan")})
    found, said = look(clone)
    assert "| lost |  | nan |  |" in said
    found["params"] = [{"name": text, "base": text, "value": None}] * 1000
    found["words"].append({"word": "worse", "why": text})
    said = pull_request.markdown(found)
    assert len(said) < 65_000 and "<script" not in said and "@all" not in said and "](https" not in said


def test_the_target():
    """`make report BASE=` is of a branch, `make report` of a run; what is typed is no code of make's or the shell's."""
    for word, verb in (("BASE=$(error no)", "report_base"), ("RUN=2026", "report")):
        command = ["make", "--dry-run", "--silent", "-f", "Makefile", "report", word]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"sh scripts/host/runner.sh {verb} ")
