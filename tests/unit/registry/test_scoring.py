"""Another version of a model is measured by the scorer's own container, sealed, on the same test data."""

import math
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.pipeline import images
from scripts.pipeline.stage import Model, Pipeline, Stage
from scripts.project import UserError
from scripts.registry import scoring
from scripts.registry.gate import Gate, Measurement, Unscorable

SCORER = Stage(
    "score",
    "stages/score:1",
    inputs={"model": "models/m.bin", "test": "data/test.csv"},
    outputs={"rows": "metrics/deep/rows.csv"},
    metrics={"metrics": "metrics/m.json"},
    network="internet",
    env=["TOKEN"],
    section={"repeats": 3, "exact": True},
)
MAKER = Stage("fit", "stages/fit:1", outputs={"model": "models/m.bin"})
MODEL = Model(
    "m", "models/m.bin", "metrics/m.json", "fit", "score", "e", Gate("accuracy"), rows="metrics/deep/rows.csv"
)
PIPELINE = Pipeline("", {"fit": MAKER, "score": SCORER}, (MODEL,))
WANTED = {name: images.Image(name, f"stages/{name}:1", {}) for name in ("base", "fit", "score")}
CONTAINER = r"""
for word; do
    case $word in type=bind,src=*)
        source=${word#type=bind,src=} target=${word##*,dst=}
        case ${target%,readonly} in
        /work/models/m.bin) model=${source%%,dst=*} ;;
        /work/metrics) made=${source%%,dst=*} ;;
        esac ;;
    esac
done
"""
"""Finds, in a `docker run`, the folders that the container would see."""


@pytest.fixture
def scorer(project, docker, monkeypatch):
    """Return what measures models in this project, whose images are all on the machine."""
    for limit, value in {"MEMORY": "1g", "CPUS": "1", "PIDS": "9", "TIMEOUT": "60"}.items():
        monkeypatch.setenv(f"SCORE_{limit}", value)
    monkeypatch.setenv("STAGE_USER", "1:1")
    docker.does("image ls", "for name in base fit score; do echo stages/$name:1 $name; done")
    return scoring.Scorer(project, PIPELINE, MODEL, WANTED)


@pytest.fixture
def version(tmp_path):
    """Return another version of the model: a file somewhere else."""
    path = tmp_path / "elsewhere.bin"
    path.write_text("0.75")
    return path


def runs(docker, script):
    """Let a container do what `script` says; $model is the model's file, $made the folder for outputs."""
    docker.does("run", f"{CONTAINER}\n{script}")


WELL = """printf '{"accuracy": %s}' "$(cat "$model")" > "$made/m.json"
mkdir "$made/deep"; printf 'score\\n1\\n0\\n' > "$made/deep/rows.csv" """


# --- what is run


def test_the_container_measures_the_file_that_it_is_given(scorer, docker, version):
    """The scorer sees the other version where its own model would be; what it writes is the measurement."""
    runs(docker, WELL)
    assert scorer.measure(version) == Measurement({"accuracy": 0.75}, (1.0, 0.0))


def test_a_folder_is_measured_as_a_file_is(project, scorer, docker, tmp_path):
    """A model may be a folder of files."""
    folder = tmp_path / "net"
    (folder / "layers").mkdir(parents=True)
    (folder / "layers" / "first").write_text("0.5")
    runs(docker, WELL.replace('"$model"', '"$model/layers/first"'))
    assert scorer.measure(folder).metrics == {"accuracy": 0.5}


def test_the_container_is_sealed_and_otherwise_the_stages_own(scorer, docker, version, project):
    """No network and no variables, whatever the block says; image, limits and parameters are the stage's."""
    runs(docker, f"{WELL}\nfor word; do echo \"$word\"; done > '{docker.log}.words'")
    scorer.measure(version)
    words = Path(f"{docker.log}.words").read_text().splitlines()
    after = {word: words[place + 1] for place, word in enumerate(words[:-1])}
    assert after["--network"] == "none" and "--env" not in words
    assert (after["--memory"], after["--user"], after["--cap-drop"]) == ("1g", "1:1", "ALL")
    assert {"--read-only", "--rm", "no-new-privileges", "pipeline.stage=score"} <= set(words)
    arguments = "--model models/m.bin --test data/test.csv --rows metrics/deep/rows.csv --metrics metrics/m.json"
    assert words[words.index("stages/score:1") + 1 :] == shlex.split(f"{arguments} --repeats 3 --exact")
    mounts = [word for word in words if word.startswith("type=bind")]
    assert mounts == [
        f"type=bind,src={project.score}/score/models/m.bin,dst=/work/models/m.bin,readonly",
        f"type=bind,src={project.root}/data/test.csv,dst=/work/data/test.csv,readonly",
        f"type=bind,src={project.score}/score/made/metrics,dst=/work/metrics",
    ]


def test_the_pipelines_own_outputs_stay_as_they_are(scorer, docker, version, project):
    """What the scorer writes of another version lands in a folder of its own, which is gone afterwards."""
    (project.root / "metrics").mkdir()
    (project.root / "metrics" / "m.json").write_text('{"accuracy": 1}')
    runs(docker, WELL)
    scorer.measure(version)
    assert (project.root / "metrics" / "m.json").read_text() == '{"accuracy": 1}'
    assert not project.score.exists()


def test_what_a_killed_measurement_left_is_no_part_of_the_next_one(scorer, docker, version, project):
    """Files of an earlier measurement are gone before the container starts."""
    stale = project.score / "score" / "made" / "metrics" / "m.json"
    stale.parent.mkdir(parents=True)
    stale.write_text('{"accuracy": 1}')
    runs(docker, "true")
    assert isinstance(scorer.measure(version), Unscorable)


def test_a_missing_image_is_built_first(scorer, docker, version, project):
    """On a machine that never ran the scorer its image is built before a version is measured, and no other is."""
    docker.does("image ls", "echo stages/base:1 base")
    docker.does("buildx build", "cat > /dev/null")
    runs(docker, WELL)
    assert scorer.measure(version).metrics == {"accuracy": 0.75}
    built = [line for line in docker.asked if line.startswith("buildx build")]
    assert len(built) == 1 and "--tag stages/score:1" in built[0]


def test_a_link_that_the_scorer_leaves_is_not_followed(scorer, docker, version, tmp_path):
    """A scorer that writes a link in place of its metrics has no measurement, whatever the link leads to."""
    (tmp_path / "other.json").write_text('{"accuracy": 1}')
    runs(docker, f'{WELL}\nrm "$made/m.json"; ln -s \'{tmp_path}/other.json\' "$made/m.json"')
    assert "symbolic link" in scorer.measure(version).why


# --- how it ends


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (
            "echo 'error: score: models/m.bin is a network; expected a tree'; exit 2",
            "models/m.bin is a network; expected",
        ),
        ("echo oops; exit 2", "score crashed on it with exit code 2: oops"),
        (
            "echo Traceback; echo 'ValueError: no such class'; exit 1",
            "crashed on it with exit code 1: ValueError: no such",
        ),
        ("exit 3", "score crashed on it with exit code 3"),
        ("exit 124", "score took longer than SCORE_TIMEOUT"),
        ("printf 'bad \\033[2J\\r\\342\\200\\256words'; exit 1", "exit code 1: ?words"),
        (":", "metrics/deep/rows.csv cannot be read"),
        (f"{WELL}; echo '{{' > \"$made/m.json\"", "metrics/m.json is no JSON"),
        (f"{WELL}; echo 'other' > \"$made/deep/rows.csv\"", "has the columns other; expected one named score"),
    ],
)
def test_what_says_something_about_the_model_leaves_it_without_a_score(scorer, docker, version, script, why):
    """Input that the scorer refuses, a crash, a time-out and outputs that are none are reasons to stay in Staging."""
    runs(docker, script)
    found = scorer.measure(version)
    assert isinstance(found, Unscorable) and why in found.why
    assert "\n" not in found.why and "\x1b" not in found.why


def test_out_of_memory_says_something_about_the_model(scorer, docker, version):
    """A version that needs more memory than the scorer has is told apart from a kill, by what the engine saw."""
    docker.does("events", 'case "$*" in *pipeline.stage=score*event=oom*) echo oom;; esac')
    runs(docker, "exit 137")
    assert scorer.measure(version) == Unscorable("score needs more memory than SCORE_MEMORY")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (
            "echo 'docker: Cannot connect to the Docker daemon.'; exit 125",
            "docker: Cannot connect to the Docker daemon",
        ),
        ("exit 137", "it was killed"),
        ("echo going; exit 143", "going"),
    ],
    ids=["the engine", "killed", "ended"],
)
def test_what_says_nothing_about_the_model_is_an_error(scorer, docker, version, project, script, why):
    """A fault of the engine, or a kill from outside, decides on nothing: the next run measures again."""
    runs(docker, script)
    with pytest.raises(UserError, match=f"score could not be run on another version of m: {why}"):
        scorer.measure(version)
    assert not project.score.exists()


def test_a_scorer_that_prints_without_end_fills_no_memory(scorer, docker, version, monkeypatch):
    """Of what the container prints only the end is kept."""
    monkeypatch.setattr(scoring, "KEPT_LINES", 3)
    runs(docker, f"seq 100000; head -c 100000 /dev/zero | tr '\\0' x; {WELL}")
    assert scorer.measure(version).metrics == {"accuracy": 0.75}
    runs(docker, "seq 100000; exit 1")
    assert scorer.measure(version).why.endswith(": 100000")


# --- what is read


def test_a_measurement_is_what_the_scorer_wrote(tmp_path):
    """Numbers of the metrics file by name, nested ones with dots, and a score a row; no rows where there is no file."""
    (tmp_path / "metrics" / "deep").mkdir(parents=True)
    (tmp_path / "metrics" / "m.json").write_text('{"accuracy": 0.5, "per_class": {"a": {"f1": NaN}}}')
    (tmp_path / "metrics" / "deep" / "rows.csv").write_text("id,score\na,1\nb,0.5\n")
    found = scoring.read(tmp_path, MODEL)
    assert found.metrics["accuracy"] == 0.5 and math.isnan(found.metrics["per_class.a.f1"])
    assert found.rows == (1.0, 0.5)
    assert scoring.read(tmp_path, replace(MODEL, rows=None)).rows is None


# --- what a score depends on

LOCK = {
    "score": {
        "deps": [
            {"path": "models/m.bin", "md5": "1" * 32},
            {"path": "data/test.csv", "md5": "2" * 32},
            {"path": "data/classes", "md5": f"{'3' * 32}.dir"},
        ]
    }
}


def scored_by(*, deps=None, **changes):
    pipeline = Pipeline("", {"fit": MAKER, "score": replace(SCORER, **changes)})
    return scoring.scored_by(pipeline, MODEL, LOCK if deps is None else {"score": {"deps": deps}})


def test_a_score_depends_on_image_parameters_and_each_input():
    """Another image, parameter, input, or content of one makes other scores, which are never compared with these."""
    deps = LOCK["score"]["deps"]
    edited = [*deps[:2], {**deps[2], "md5": f"{'4' * 32}.dir"}]
    renamed = [*deps[:2], {**deps[2], "path": "data/others"}]
    swapped = [deps[0], {**deps[1], "md5": deps[2]["md5"]}, {**deps[2], "md5": deps[1]["md5"]}]
    others = [
        scored_by(),
        scored_by(image="stages/score:2"),
        scored_by(section={"repeats": 4, "exact": True}),
        scored_by(section={"repeats": 3}),
        scored_by(section=None),
        *(scored_by(deps=changed) for changed in (edited, renamed, swapped, deps[:2], [])),
    ]
    assert len(set(others)) == len(others)


def test_a_score_does_not_depend_on_the_model_or_on_an_order():
    """The model's own digest, and the order of inputs and parameters, change nothing."""
    first, *rest = LOCK["score"]["deps"]
    assert scored_by(deps=[*reversed(rest), {**first, "md5": "9" * 32}]) == scored_by()
    assert scored_by(section={"exact": True, "repeats": 3}) == scored_by()


def test_the_parameters_of_a_score_are_canonical_json():
    """The parameters can be read, and are the same text on every machine."""
    assert scored_by().params == '{"exact":true,"repeats":3}' and scored_by(section=None).params == "{}"
