"""Three lines in a fresh clone's .env: tracking, registry and data on DagsHub, with an old MLflow and the current."""

import base64
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.conftest import NOTHING, STAGES, Clone, Make, stages_line, with_probe
from tests.dagshub.stand_in import ADDRESS, CURRENT, OLD, TOKEN, USER, StandIn, configure, contents

pytestmark = pytest.mark.docker

FORMS = [TOKEN, base64.b64encode(f"{USER}:{TOKEN}".encode()).decode()]
"""How the token could be written."""


class Published(NamedTuple):
    """A fresh clone with the three lines, after `make run push`."""

    clone: Clone
    stand_in: StandIn
    done: Make
    seen: str  # its containers as Docker shows them, and the processes in them, while it ran


def watched(clone: Clone, *targets: str) -> tuple[Make, str]:
    """Call `make TARGETS`; return that, and what Docker and ps show of its containers meanwhile."""
    seen = set()
    log = clone.path.parent / f"{clone.path.name}.log"
    with (
        log.open("w") as output,
        subprocess.Popen(["make", *targets], cwd=clone.path, stdout=output, stderr=subprocess.STDOUT) as running,
    ):
        while running.poll() is None:
            for container in clone.docker("container", "ls", "--quiet"):
                for look in ("inspect", "top"):
                    shown = subprocess.run(["docker", look, container], capture_output=True, text=True)
                    seen.add(re.sub(r"\d\d:\d\d:\d\d", "", shown.stdout))
            time.sleep(0.1)
    printed = log.read_text()
    assert running.returncode == 0, printed
    return Make(targets, running.returncode, printed), "\n".join(sorted(seen))


SERVERS = [
    pytest.param(CURRENT, id="current-mlflow", marks=pytest.mark.deep),
    pytest.param(OLD, id="mlflow-2.7.1"),  # DagsHub's
]


@pytest.fixture(scope="module", params=SERVERS)
def published(
    request: pytest.FixtureRequest, clone_at: Callable[[str], Clone], stand_in_for: Callable[[Clone, str], StandIn]
) -> Published:
    """Return a fresh clone with three lines in .env, after `make run push`, for each MLflow server."""
    clone = clone_at(f"dagshub-{request.param}")
    configure(clone)
    return Published(clone, stand_in_for(clone, request.param), *watched(clone, "run", "push"))


def test_a_fresh_clone_publishes_one_version(published: Published) -> None:
    """`make run push` with three lines in .env registers one version, which is in Production."""
    assert "published now" in published.done.stdout
    assert published.stand_in.stages() == {"1": "Production"}


def test_the_report_points_to_the_models_tab(published: Published) -> None:
    """The report gives the repository's address on DagsHub, not the API's."""
    assert re.search(r"^look at +http://dagshub\.test/team/iris(/|$)", published.done.stdout, re.M)
    assert ".mlflow" not in re.search(r"^look at .*$", published.done.stdout, re.M)[0]


def test_the_published_model_scores_as_metrics_say(published: Published) -> None:
    """The registered version loads with today's client and has the accuracy of metrics.json on the test set."""
    printed = published.clone.python(
        "import mlflow, pandas\n"
        "model = mlflow.pyfunc.load_model('models:/iris-classifier/1')\n"
        "test = pandas.read_csv('data/processed/test.csv')\n"
        "predicted = model.predict(test.drop(columns='species'))\n"
        "print('ACCURACY', (predicted == test['species']).mean())\n"
    )
    metrics = json.loads((published.clone.path / "metrics/metrics.json").read_text())
    assert float(re.search(r"ACCURACY (.*)", printed)[1]) == pytest.approx(metrics["accuracy"], abs=1e-6)


def test_people_read_what_it_is(published: Published) -> None:
    """Run and model are described, and MLflow opens each data set, which is the bucket's object, and knows its columns;
    with the model comes a row that it takes."""
    printed = published.clone.python(
        "import hashlib, json, mlflow, os, pathlib\n"
        "client = mlflow.MlflowClient()\n"
        "version = client.get_model_version('iris-classifier', '1')\n"
        "run = client.get_run(version.run_id)\n"
        "os.environ['MLFLOW_S3_ENDPOINT_URL'] = os.environ['AWS_ENDPOINT_URL']\n"
        "data = [entry.dataset for entry in run.inputs.dataset_inputs]\n"
        "files = [pathlib.Path(mlflow.data.get_source(each).load()).read_bytes() for each in data]\n"
        "model = mlflow.pyfunc.load_model('models:/iris-classifier/1')\n"
        "print('JSON', json.dumps({\n"
        "    'note': run.data.tags['mlflow.note.content'], 'user': run.data.tags['mlflow.user'],\n"
        "    'card': client.get_registered_model('iris-classifier').description,\n"
        "    'opened': [hashlib.md5(file).hexdigest() == each.digest for file, each in zip(files, data)],\n"
        "    'columns': [len(json.loads(each.schema)['mlflow_colspec']) for each in data],\n"
        "    'example': len(model.predict(model.input_example)),\n"
        "}))\n"
    )
    found = json.loads(re.search(r"JSON (.*)", printed)[1])
    assert found["user"] == USER and "**Decision when it came**: Production" in found["note"]
    assert "**Limits**" in found["card"] and "one of 3 classes" in found["card"]
    assert (found["opened"], found["columns"], found["example"]) == ([True, True], [5, 5], 1)


def test_the_bucket_holds_data_and_run_cache(published: Published) -> None:
    """All outputs of dvc.lock are in the bucket, with the run-cache of the four stages."""
    assert published.stand_in.pushed() == (contents(published.clone), 4)


def test_doctor_finds_nothing_wrong(published: Published) -> None:
    """`make doctor` has only good lines (but of what could be safer), and says what MLflow, token and remote can do."""
    done = published.clone.make("doctor")
    signs = [line.split()[:2] for line in done.stdout.strip().splitlines()[:-1]]
    assert {sign for sign, name in signs if name != "border"} == {"ok"}
    assert re.search(r"^ok +DagsHub +the token is ann's$", done.stdout, re.M)
    assert re.search(r"^ok +repository +team/iris, which ann may write$", done.stdout, re.M)
    assert re.search(r"^ok +registry +supports stages, aliases$", done.stdout, re.M)
    assert re.search(r"^ok +remote +s3://dvc answers, and keeps the run-cache$", done.stdout, re.M)
    assert TOKEN not in done.stdout


def test_another_clone_pulls_and_runs_nothing(published: Published, clone_at: Callable[[str], Clone]) -> None:
    """A clone at another path with the same .env gets all by `make pull`: its run runs and registers nothing."""
    other = clone_at(f"{published.clone.path.name}-second")
    configure(other)
    shutil.copy(published.clone.path / "dvc.lock", other.path)  # as git brings it
    published.stand_in.join(other)
    done = other.make("pull", "run")
    assert stages_line(done) == NOTHING
    assert "version 1, published before" in done.stdout
    assert published.stand_in.stages() == {"1": "Production"}


def test_the_token_is_in_env_alone(published: Published) -> None:
    """The token is in .env and DVC's config.local, in no other file, no output, no container's settings, no image."""
    clone = published.clone
    stages = re.findall(r"stages/[\w-]+:\w+", (clone.path / "dvc.yaml").read_text())
    assert len(stages) == len(STAGES) and any(stage in published.seen for stage in stages)
    history = subprocess.check_output(["sh", "-c", 'for i; do docker history --no-trunc "$i"; done', "-", *stages])
    shown = {"output": published.done.stdout, "containers": published.seen, "images": history.decode()}
    assert [where for where, text in shown.items() for form in FORMS if form in text] == []
    logs = list((clone.path / ".local" / "logs").iterdir())
    assert logs
    holders = {
        str(path.relative_to(clone.path))
        for path in clone.path.rglob("*")
        if path.is_file() and any(form.encode() in path.read_bytes() for form in FORMS)
    }
    assert holders - {".dvc/config.local"} == {".env"}
    for secret in (".env", ".dvc/config.local"):
        assert (clone.path / secret).stat().st_mode & 0o777 == 0o600
    assert clone.git("status", "--porcelain", "--", ".env", ".dvc") == ""


def test_no_stage_has_the_token(published: Published) -> None:
    """The `docker run` of each stage, where it gets all that it names, gives it no token and no network."""
    stages = published.clone.stages()
    probe = "import os; print('SEES', sorted(os.environ.items()), open('/proc/net/route').read().count('\\n'))"
    commands = [with_probe(stages[name]["cmd"], probe) for name in STAGES]
    printed = published.clone.make("shell", stdin="\n".join(["env", *commands]) + "\n").stdout
    assert TOKEN in printed  # what the shell itself has
    seen = re.findall(r"^SEES .*$", printed, re.M)
    assert len(seen) == len(STAGES) and all(line.endswith(" 1") for line in seen), printed  # no route
    assert [line for line in seen for form in FORMS if form in line] == []
    assert re.search("MLFLOW|DAGSHUB|AWS", "".join(seen)) is None


@pytest.fixture
def with_own_settings(published: Published) -> Iterator[Callable[[str], Clone]]:
    """Return what puts MLflow's own variables and others into .env; restore DagsHub's three afterwards."""
    clone = published.clone
    own = f"MLFLOW_TRACKING_URI={ADDRESS}\nMLFLOW_TRACKING_USERNAME={USER}\nMLFLOW_TRACKING_PASSWORD={TOKEN}\n"

    def settle(others: str) -> Clone:
        (clone.path / ".env").write_text(own + others)
        return clone

    yield settle
    configure(clone)


def test_any_server_and_any_bucket_do_the_same(published: Published, with_own_settings: Callable[[str], Clone]) -> None:
    """An MLflow server and a bucket that are named by their own variables serve run, push and doctor as well."""
    s3 = f"AWS_ENDPOINT_URL={ADDRESS.replace('.mlflow', '.s3')}\nDVC_REMOTE_URL=s3://dvc/own\n"
    clone = with_own_settings(f"{s3}AWS_ACCESS_KEY_ID={TOKEN}\nAWS_SECRET_ACCESS_KEY={TOKEN}\n")
    done = clone.make("run", "push", "doctor")
    assert stages_line(done) == NOTHING and "version 1, published before" in done.stdout
    assert re.search(r"^ok +remote +s3://dvc/own answers, and keeps the run-cache$", done.stdout, re.M)
    own = [key for key in published.stand_in.bucket() if key.startswith("own/")]
    assert len([key for key in own if key.startswith("own/files/md5/")]) == len(contents(clone))
    assert len([key for key in own if key.startswith("own/runs/")]) == 4


def test_a_remote_by_http_is_noted(with_own_settings: Callable[[str], Clone]) -> None:
    """For a remote of the user's own that is reached by HTTP, doctor notes that it keeps no run-cache."""
    clone = with_own_settings("")
    url, basic = ADDRESS.replace(".mlflow", ".dvc"), f"    auth = basic\n    user = {USER}\n    password = {TOKEN}\n"
    config = clone.path / ".dvc" / "config.local"
    config.write_text(f"[core]\n    remote = web\n['remote \"web\"']\n    url = {url}\n{basic}")
    done = clone.make("doctor")
    config.unlink()
    assert re.search(
        r"^note +remote +http://dagshub\.test/team/iris\.dvc answers, but keeps no run-cache", done.stdout, re.M
    )
