"""What is published of a model, in which order, and how the registry's receipt is recognized."""

import http.server
import json
import subprocess
import sys
import threading
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from scripts.digests import sha256
from scripts.pipeline import dvc_adapter, images
from scripts.pipeline.stage import Model, Pipeline, Stage
from scripts.project import ROOT, UserError
from scripts.registry import logged, provenance, publish, records, scoring
from scripts.registry.gate import Gate, Measurement, Unscorable
from scripts.registry.provenance import Snapshot
from scripts.registry.publish import Job, Publication
from scripts.registry.receipts import Published
from scripts.registry.versions import Outcome

STAGES = {
    "split": Stage(
        "split", "stages/split:1", {"raw": "data/external/x.csv"}, {"train": "data/p/train", "t": "data/p/t"}
    ),
    "fit": Stage("fit", "stages/fit:2", {"train": "data/p/train"}, {"model": "models/m.bin"}, section={"seed": 1}),
    "score": Stage(
        "score",
        "stages/score:3",
        {"model": "models/m.bin", "test": "data/p/t", "classes": "data/external/classes.csv"},
        metrics={"metrics": "metrics/m.json"},
    ),
    "report": Stage("report", "stages/report:4", {"m": "metrics/m.json"}, {"html": "report/index.html"}),
}
MODEL = Model("m", "models/m.bin", "metrics/m.json", "fit", "score", "e", Gate("accuracy"))
PIPELINE = Pipeline("stages: {}\n", STAGES, (MODEL,))


def entry(path, digit):
    return {"path": path, "hash": "md5", "md5": digit * 32, "size": 1}


LOCK = {
    "split": {
        "cmd": "split",
        "deps": [entry("data/external/x.csv", "1")],
        "outs": [entry("data/p/t", "2"), {**entry("data/p/train", "3"), "md5": f"{'3' * 32}.dir"}],
    },
    "fit": {
        "cmd": "fit",
        "deps": [{**entry("data/p/train", "3"), "md5": f"{'3' * 32}.dir"}],
        "outs": [entry("models/m.bin", "4")],
    },
    "score": {
        "cmd": "score",
        "deps": [entry("models/m.bin", "4"), entry("data/p/t", "2"), entry("data/external/classes.csv", "5")],
        "outs": [entry("metrics/m.json", "6")],
    },
    "report": {"cmd": "report", "outs": [entry("report/index.html", "7")]},
}


@pytest.fixture
def done(project):
    """Return a project whose stages have run."""
    for path, text in {"models/m.bin": "weights", "metrics/m.json": '{"accuracy": 0.9}'}.items():
        (project.root / path).parent.mkdir()
        (project.root / path).write_text(text)
    write_lock(project, LOCK)
    return project


def write_lock(project, lock):
    project.dvc_lock.write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}, sort_keys=False))


# --- the receipt


@dataclass
class Registry:
    """What a server has of one model, as MLflow's REST API tells it."""

    versions: list = field(default_factory=list)
    aliases: list = field(default_factory=list)
    tags: dict = field(default_factory=dict)
    run: str = "active"  # its lifecycle_stage
    answers: dict = field(default_factory=dict)  # other answers, by call: (status, text)
    asked: list = field(default_factory=list)

    def answer(self, call, query):
        self.asked.append((call, query))
        if call in self.answers:
            return self.answers[call]
        if not self.versions:
            return 404, '{"error_code": "RESOURCE_DOES_NOT_EXIST"}'
        tags = [{"key": key, "value": value} for key, value in self.tags.items()]
        found = {
            "registered-models/get": {"registered_model": {"name": "m", "aliases": self.aliases, "tags": tags}},
            "model-versions/search": {"model_versions": self.versions},
            "runs/get": {"run": {"info": {"run_id": "r", "lifecycle_stage": self.run}}},
        }
        return 200, json.dumps(found[call])

    def add(self, number, stage, **tags):
        listed = [{"key": key, "value": value} for key, value in tags.items()]
        self.versions.append({"version": str(number), "current_stage": stage, "run_id": "r", "tags": listed})


@pytest.fixture
def registry(monkeypatch):
    """Return what a server on this machine has, which can be changed."""
    has = Registry()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            address = urlsplit(self.path)
            status, text = has.answer(address.path.removeprefix("/api/2.0/mlflow/"), parse_qs(address.query))
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        yield has
        server.shutdown()


def receipts(project):
    """Return the tags by which a version is recognized."""
    lock = provenance.lock_of(PIPELINE, MODEL, project)
    return {"model_sha256": sha256(project.root / MODEL.file), "dvc_lock_sha256": publish.digest(lock)}


def at_rest(registry, project, **tags):
    """Let the registry have one version, in production, with a receipt for what is on disk."""
    registry.add(1, "Production", **{"decision": "Production", "reason": "the first", **receipts(project), **tags})
    registry.aliases = [{"alias": "production", "version": "1"}]
    registry.tags = {"production_turn": "1.0.1"}


def test_a_version_with_the_models_digests_is_the_receipt(registry, done):
    """A registry at rest that has the model's content and its part of dvc.lock has all there is to publish."""
    at_rest(registry, done)
    assert publish.receipt(done, PIPELINE, MODEL) == Published(
        "m", "1", "Production", "the first", "accuracy", 0.9, "Production", False
    )
    assert [call for call, _ in registry.asked] == ["registered-models/get", "model-versions/search", "runs/get"]
    assert registry.asked[0][1] == {"name": ["m"]}


def test_the_stage_of_now_is_told_beside_the_one_of_then(registry, done):
    """A version that was archived since it was decided on has both stages in its receipt."""
    at_rest(registry, done)
    registry.versions[0]["current_stage"] = "Archived"
    registry.add(2, "Production", decision="Production", model_sha256="other")
    registry.aliases, registry.tags = [{"alias": "production", "version": "2"}], {"production_turn": "2.0.2"}
    found = publish.receipt(done, PIPELINE, MODEL)
    assert (found.version, found.stage, found.now) == ("1", "Production", "Archived")


@pytest.mark.parametrize("gone", ["in the trash", "for good"])
def test_a_version_whose_run_was_deleted_has_no_receipt(registry, done, gone):
    """A version without its run, which holds the file, is not all there is to publish: a person is told the way out."""
    at_rest(registry, done)
    registry.run = "deleted"
    if gone == "for good":
        registry.answers["runs/get"] = (404, '{"error_code": "RESOURCE_DOES_NOT_EXIST"}')
    assert publish.receipt(done, PIPELINE, MODEL) is None


def test_a_model_that_the_registry_does_not_know_has_no_receipt(registry, done):
    """An empty registry lacks the model, which is no fault."""
    assert publish.receipt(done, PIPELINE, MODEL) is None


@pytest.mark.parametrize(
    "edit",
    [
        lambda project: (project.root / MODEL.file).write_text("other weights"),
        lambda project: write_lock(project, LOCK | {"fit": LOCK["fit"] | {"cmd": "fit --seed 2"}}),
        lambda project: write_lock(project, LOCK | {"split": LOCK["split"] | {"deps": []}}),
    ],
    ids=["another model", "another command", "other data"],
)
def test_what_has_changed_since_has_no_receipt(registry, done, edit):
    """Another model, or another entry of dvc.lock that led to it, is to be published."""
    at_rest(registry, done)
    edit(done)
    assert publish.receipt(done, PIPELINE, MODEL) is None


def test_a_stage_that_did_not_lead_to_the_model_is_no_part_of_its_receipt(registry, done):
    """A report that was made again changes nothing about the model."""
    at_rest(registry, done)
    write_lock(done, LOCK | {"report": {"cmd": "report --pretty"}})
    assert publish.receipt(done, PIPELINE, MODEL)


@pytest.mark.parametrize(
    "trouble",
    [
        lambda registry: registry.versions[0]["tags"].pop(0),
        lambda registry: registry.aliases.clear(),
        lambda registry: registry.tags.clear(),
        lambda registry: registry.add(2, "None", model_sha256="other"),
    ],
    ids=["no decision", "no alias", "not applied", "another version waits"],
)
def test_a_registry_that_is_not_at_rest_gives_no_receipt(registry, done, trouble):
    """What a killed publication left to do is done by the next one, although this model's version is there."""
    at_rest(registry, done)
    trouble(registry)
    assert publish.receipt(done, PIPELINE, MODEL) is None


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((500, "oops"), "did not answer (500: "),
        ((401, ""), "did not answer (401: "),
        ((200, "<html>"), "did not answer (it answers with a page"),
    ],
)
def test_a_server_that_does_not_answer_is_said_in_a_sentence(registry, done, answer, says):
    """The sentence says which server, why, and what to do; a fault is never taken for a registry without the model."""
    registry.answers["registered-models/get"] = answer
    with pytest.raises(UserError) as told:
        publish.receipt(done, PIPELINE, MODEL)
    assert str(told.value).startswith("m is trained, but not published: the MLflow server http://127.0.0.1:")
    assert says in str(told.value) and str(told.value).endswith("once that works, without training")


def test_a_server_that_is_away_is_said_in_a_sentence(done, monkeypatch):
    """A refused connection is said as such."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(
        UserError, match=r"http://127\.0\.0\.1:9 did not answer \(connection refused: is it running\?\)"
    ):
        publish.receipt(done, PIPELINE, MODEL)


def test_what_only_a_person_can_decide_is_said(registry, done):
    """Two versions in production by hand are no receipt and no reason to publish: a person is asked."""
    at_rest(registry, done)
    for number in (2, 3):
        registry.add(number, "Production", decision="Staging", model_sha256="other")
    with pytest.raises(UserError, match=r"not published: versions 2 and 3 are both in production"):
        publish.receipt(done, PIPELINE, MODEL)


def test_a_score_that_cannot_be_read_is_none(done):
    """The report has no number if the scorer's file is gone, is none, or lacks the gate's metric."""
    assert publish.score_of(done, MODEL) == 0.9
    assert publish.score_of(done, replace(MODEL, gate=Gate("f1"))) is None
    (done.root / MODEL.metrics).write_text("{")
    assert publish.score_of(done, MODEL) is None


def test_a_run_with_nothing_to_do_imports_no_client_of_mlflow():
    """What takes long to import is imported by who needs it: DVC where there may be something to do, and MLflow by the
    publishing process alone."""
    slow = ("mlflow", "matplotlib", "dvc", "jinja2", "networkx")
    code = f"import sys, scripts.__main__, scripts.verbs.run; print([each for each in {slow} if each in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- what a model asks for


@pytest.fixture
def asks(project):
    """Return a function that writes the requirements of a folder of stages/."""

    def write(folder, asked=None, pinned=None):
        (project.stages / folder).mkdir(parents=True, exist_ok=True)
        for name, text in (("requirements.in", asked), ("requirements.txt", pinned)):
            if text is not None:
                (project.stages / folder / name).write_text(text)
        return publish.requirements(project, "fit")

    return write


def test_a_model_asks_for_what_its_stage_and_the_base_ask_for(asks):
    """What is asked for by name is there in its pinned version; what only comes along with it is not."""
    asks(
        "base", "pydantic  # arguments\n", "# locked\npydantic==2.1 \\\n    --hash=sha256:ab\n    # via -r x\nsix==1\n"
    )
    asked = "Scikit_Learn>=1\nlightgbm[dask]==4\nruamel.yaml\n"
    found = asks("fit", asked, "lightgbm==4.1 ; x\nscikit-learn==1.9\nnumpy==2\nruamel-yaml==3\n")
    assert found == ["lightgbm==4.1", "pydantic==2.1", "ruamel-yaml==3", "scikit-learn==1.9"]


def test_a_stage_may_pin_what_the_base_asks_for(asks):
    """A stage's own version of a package is what its model was made with."""
    asks("base", "numpy\n", "numpy==1\n")
    assert asks("fit", "", "numpy==2\n") == ["numpy==2"]


def test_a_stage_without_requirements_asks_for_nothing(asks):
    """A stage in another language has neither file; a package without a pinned version is left out."""
    assert asks("fit") == []
    assert asks("fit", "torch\n") == []


# --- a publication


class Versions:
    """Notes down the calls to scripts/registry/versions.py, and answers as a server without the model would."""

    def __init__(self, real, calls):
        self._real, self._calls = real, calls

    def __getattr__(self, name):
        if name[0].isupper():
            return getattr(self._real, name)

        def call(*arguments):
            self._calls.append((name, *arguments))
            if name == "upload":
                return arguments[2] or "new run"
            return {"begin_run": "live run", "register": Outcome("4", "new run", "Staging", "why", "None")}.get(name)

        return call


@pytest.fixture
def publication(done, registry):
    """Return a model's publication and the list of what it does to the registry."""
    (done.root / "data" / "external").mkdir(parents=True)
    (done.root / "data" / "external" / "classes.csv").write_text("a\nb\n")
    snapshot = Snapshot("abc", {"params.yaml": b"x", provenance.PATCH: b"diff"})
    job = Job(done, PIPELINE, (MODEL,), {}, snapshot, {"fit": ["numpy==2"]}, "me")
    found = Publication(job, MODEL)
    calls = []
    found._versions = Versions(found._versions, calls)
    return found, calls


def test_a_model_is_published_in_order(publication, done):
    """First its file and all that the stages left, then its version and decision, and last the receipt."""
    found, calls = publication
    published = found.publish()
    assert [call[0] for call in calls] == ["upload", "log", "register", "complete"]
    assert published == Published("m", "4", "Staging", "why", "accuracy", 0.9, "None", True)
    _, run_id, *logged_first = calls[1]
    _, settings, outcome, left, tags, logged_to, about = calls[3]
    assert (about.model, about.maker, about.place, about.metrics) == ("m", "fit", "model/m.bin", {"accuracy": 0.9})
    assert run_id == logged_to == outcome.run_id == "new run" and logged_first == [left, tags]
    assert (settings.experiment, settings.model, settings.git_commit, settings.who) == ("e", "m", "abc", "me")
    assert left.metrics == {"accuracy": 0.9} and left.params == {"seed": "1"}
    assert left.artifacts["pipeline/params.yaml"] == b"x" and left.artifacts["pipeline/uncommitted.patch"] == b"diff"
    assert left.artifacts["pipeline/dvc.lock"] == provenance.lock_of(PIPELINE, MODEL, done)
    assert tags == {
        "image.split": "stages/split:1",
        "image.fit": "stages/fit:2",
        "image.score": "stages/score:3",
        "git_commit": "abc",
        "git_dirty": "true",
        "mlflow.source.git.commit": "abc",
        "dvc_lock_sha256": publish.digest(provenance.lock_of(PIPELINE, MODEL, done)),
    }


@pytest.mark.parametrize("trouble", ["a stage's file is gone", "the server refuses what the stages left"])
def test_nothing_is_registered_before_all_is_there(publication, done, monkeypatch, trouble):
    """What stands against a part of the run is told while there is no version, and nothing is promoted."""
    found, calls = publication
    error = UserError(trouble)
    if trouble.startswith("a stage"):
        (done.root / MODEL.metrics).unlink()
        error = UserError("cannot be read")
    else:
        monkeypatch.setattr(found._versions, "log", lambda *_: (_ for _ in ()).throw(error), raising=False)
    with pytest.raises(type(error), match=str(error)):
        found.publish()
    assert "register" not in [call[0] for call in calls]


def test_the_version_is_judged_by_the_pipelines_own_measurement(publication, done):
    """What the scorer wrote is the challenger's score; other versions are measured by its container."""
    found, calls = publication
    found.publish()
    _, _, candidate, run_id, measured, measure = next(call for call in calls if call[0] == "register")
    assert measured == Measurement({"accuracy": 0.9}, None) and run_id == "new run"
    assert candidate.scored_by == scoring.scored_by(PIPELINE, MODEL, LOCK)
    assert measure.__self__.model is MODEL and measure.__self__.project is done
    (done.root / MODEL.metrics).write_text("[]")
    found.publish()
    assert isinstance([call for call in calls if call[0] == "register"][1][4], Unscorable)


def test_a_candidate_has_its_file_its_parameters_and_its_packages(publication, done):
    """What is known before the score is what is sent while the scorer runs."""
    found, calls = publication
    found.upload()
    _, _, candidate, begun = calls[0]
    assert candidate.file == done.root / "models/m.bin" and candidate.source == "fit" and begun is None
    assert candidate.params == logged.params_of(PIPELINE, MODEL) and candidate.requirements == ["numpy==2"]
    assert candidate.scored_by is None and candidate.loader is None and candidate.signature is None


def test_a_models_data_are_what_its_stage_and_its_scorer_read(publication):
    """Training and test data are named by dvc.lock's digests; the model itself is no data set."""
    found, calls = publication
    found.upload()
    assert [data[:4] for data in calls[0][2].data] == [
        ("train", "data/p/train", f"{'3' * 32}.dir", "training"),
        ("test", "data/p/t", "2" * 32, "testing"),
        ("classes", "data/external/classes.csv", "5" * 32, "testing"),
    ]


def test_a_file_that_only_the_scorer_reads_is_known_before_it_ran(publication, done):
    """Until the scorer has run dvc.lock lacks its inputs: a file that no stage made is hashed here."""
    found, calls = publication
    write_lock(done, {name: LOCK[name] for name in ("split", "fit")})
    found.upload()
    digests = {data.name: data.digest for data in calls[0][2].data}
    assert digests["classes"] == dvc_adapter.md5(done.root / "data/external/classes.csv")


def test_live_metrics_go_to_the_run_that_the_model_is_published_in(publication):
    """A run is begun for the first values, tagged with what runs; the model's file is sent to it."""
    found, calls = publication
    found.log_live([("loss", 0, 0.5)])
    found.log_live([("loss", 1, 0.25)])
    found.upload()
    found.publish()
    assert [call[0] for call in calls] == [
        "begin_run",
        "log_live",
        "log_live",
        "upload",
        "upload",
        "log",
        "register",
        "complete",
    ]
    assert calls[0][2] == "fit" and calls[0][3]["image.fit"] == "stages/fit:2"
    assert calls[1][1:] == ("live run", [("loss", 0, 0.5)])
    assert [call[3] for call in calls if call[0] == "upload"] == ["live run", "live run"]


def test_live_metrics_of_the_scorer_go_to_the_models_run(publication):
    """What is printed after the model was sent is logged to its run; no second run is begun for it."""
    found, calls = publication
    found.upload()
    found.log_live([("seen", 0, 30)])
    assert [call[0] for call in calls] == ["upload", "log_live"] and calls[1][1] == "new run"


def test_a_run_that_no_model_came_of_is_marked_as_failed(publication):
    """A run that was begun for live metrics has failed with its stage; one that holds a model has not."""
    found, calls = publication
    found.give_up()
    assert calls == []
    found.log_live([("loss", 0, 0.5)])
    found.give_up()
    assert calls[-1] == ("end_run", "live run", "FAILED")
    found.upload()
    found.give_up()
    assert [call[0] for call in calls[-2:]] == ["end_run", "upload"]


def test_what_the_registry_has_is_not_published_again(publication, registry, done):
    """A model with a receipt causes no call that writes."""
    found, calls = publication
    at_rest(registry, done)
    assert found.publish().news is False and calls == []


# --- a job


def test_a_job_is_as_it_was_when_the_run_began(done, git):
    """The commit, what is not committed, and the packages are taken first: people edit and commit during a run."""
    for name in ("base", "fit"):
        (done.stages / name).mkdir(parents=True)
        (done.stages / name / "Dockerfile").write_text("FROM scratch\n")
    (done.stages / "fit" / "requirements.in").write_text("numpy\n")
    (done.stages / "fit" / "requirements.txt").write_text("numpy==2\n")
    done.params.write_text("fit: {seed: 1}\n")
    git("add", "stages", "params.yaml")
    git("commit", "--quiet", "--message", "first")
    done.params.write_text("fit: {seed: 2}\n")
    job = Job.of(done, PIPELINE, [MODEL], images.load(done.stages), "me")
    assert job.snapshot.commit == git("rev-parse", "HEAD").strip() and job.snapshot.dirty
    assert job.snapshot.files["params.yaml"] == b"fit: {seed: 2}\n"
    assert job.requirements == {"fit": ["numpy==2"]} and job.who == "me"


def test_the_receipts_name_is_the_one_that_the_registry_keeps():
    """The tags that are looked for are those that the versions have."""
    assert (records.DIGEST, records.RECEIPT) == ("model_sha256", "dvc_lock_sha256")
