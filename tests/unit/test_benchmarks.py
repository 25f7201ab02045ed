"""The benchmarks: how values are summed up, what pipelines they are measured on, and what `make bench` leaves."""

import json

import pytest
from matplotlib.image import imread

from benchmarks import cgroups, engine, pipelines, report
from benchmarks.comparisons import NAMES, first_run, full_run
from benchmarks.engine import Layers
from benchmarks.measure import Bound, Measurement, Record
from benchmarks.pipelines import Work
from scripts.pipeline import images, template
from scripts.pipeline.stage import Stage
from scripts.project import ROOT, UserError
from scripts.verbs import bench


@pytest.fixture
def record():
    return Record(say=lambda text: None)


def result(record, **about):
    return {
        "date": "2026-01-01 00:00 UTC",
        "commit": "0123",
        "machine": {},
        "quick": False,
        **about,
        **record.as_json(),
    }


# --- Values ---------------------------------------------------------------------------------------------------------


def test_sides_alternate(record):
    """A B A B: both sides see the same moments of the machine."""
    calls = []

    def side(name):
        return lambda: calls.append(name) or {"s": float(len(calls))}

    record.alternate({"a": side("a"), "b": side("b")}, 3)
    assert calls == ["a", "b"] * 3
    assert record.measured["b", "s"].values == (2, 4, 6)


def test_a_ratio_is_one_of_medians(record):
    """One slow repetition does not change a ratio."""
    for value in (2, 2, 90):
        record.add("ours", value)
        record.add("theirs", 1)
    assert record.ratio("ours", "theirs") == 2
    assert record.ratios == {"ours / theirs": 2}


def test_units_are_kept_apart(record):
    """What has seconds and MB is two measurements of one name."""
    record.alternate({"a": lambda: {"s": 1, "MB": 300}, "b": lambda: {"MB": 500}}, 2)
    assert (record.median("a"), record.median("a", "MB"), record.largest("MB", "a")) == (1, 300, 300)


def test_a_measurement_has_median_and_spread():
    """Each measured thing is written with all its values, their median, the least and the most."""
    found = Measurement("x", "s", (3.0, 1.0, 2.0004)).as_json()
    assert found == {"name": "x", "unit": "s", "median": 2.0, "min": 1.0, "max": 3.0, "values": [3.0, 1.0, 2.0]}


@pytest.mark.parametrize(
    ("sign", "value", "met"), [("<=", 1.4, True), ("<=", 1.5, False), (">=", 1.4, True), (">=", 1.3, False)]
)
def test_a_bound_is_met_or_not(sign, value, met):
    """A bound counts as met at its limit and on the right side of it."""
    assert Bound("x", value, sign, 1.4).as_json()["met"] is met


def test_tables_show_all_that_was_found(record):
    """Every measured thing, ratio and bound is on the screen; one that is not met stands out."""
    record.add("ours", 1234.5)
    record.add("theirs", 1)
    record.at_most("ratio", record.ratio("ours", "theirs"), 2)
    text = report.tables({"full_run": result(record)})
    for shown in ("ours / theirs", "1,234", "1.00", "1234.50", "<= 2", "NOT MET"):
        assert shown in text


def test_results_of_others_stay(tmp_path, record):
    """What one comparison writes leaves the results of the others; a picture lies beside."""
    path = tmp_path / "results.json"
    record.add("ours", 1)
    report.write(path, {"data": result(record, commit="old")})
    report.write(path, report.read(path) | {"builds": result(record)})
    assert {name: found["commit"] for name, found in report.read(path).items()} == {"data": "old", "builds": "0123"}
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_parts_of_a_whole_are_drawn(tmp_path, record):
    """A whole whose parts are named is drawn as a bar; one of its parts that did not come is left out."""
    record.add("whole", 3)
    record.add("first", 1)
    report.write(tmp_path / "without.json", {"data": result(record)})
    record.parts["whole"] = ["first", "second"]
    report.write(tmp_path / "results.json", {"data": result(record)})
    assert report.read(tmp_path / "results.json")["data"]["parts"] == {"whole": ["first", "second"]}
    heights = [len(imread(tmp_path / f"{name}.png")) for name in ("without", "results")]
    assert heights[0] < heights[1]


def test_a_first_run_is_taken_apart_by_its_lines():
    """Each step of a first run goes from the line that begins it to the next one's; one that did not come has none."""
    lines = [
        "no engine: installing ...",
        "pulling python:3.13",
        "building the runner image x",
        "ingest     | starts in y",
    ]
    found = first_run.steps([*zip((1.0, 10.0, 40.0, 70.0), lines, strict=True), (71.0, "pulling again")], 90.0)
    assert found == {"Docker engine": 10, "Python image": 30, "runner image": 30, "stages, publishing": 20}


def test_a_full_run_is_taken_apart_by_its_report():
    """The parts of a full run add up to the whole: what its report says of stages, and what comes before and after."""
    spans = [("waiting", 1, 1.5), ("run", 1.5, 4), ("cache", 4, 4.5), ("run", 4.5, 6)]
    stages = [{"spans": [{"part": part, "from": since, "to": until} for part, since, until in spans]}]
    found = full_run.parts({"seconds": 7.5, "stages": stages}, 8.0)
    assert (found["waiting"], found["run"], found["cache"], found["border"]) == (0.5, 4, 0.5, 0)
    assert (found[full_run.BEFORE], found[full_run.AFTER], sum(found.values())) == (1.5, 1.5, 8)


# --- What is asked for ----------------------------------------------------------------------------------------------


def test_only_names_comparisons():
    """ONLY takes names in any order and gives them in ours; without it all run."""
    assert bench.chosen("") == list(NAMES)
    assert bench.chosen("growth, full_run") == ["full_run", "growth"]


def test_an_unknown_comparison_is_refused():
    """A name that is no comparison's gets one sentence with those that are."""
    with pytest.raises(UserError, match=r"'growht'; expected names out of full_run, .*: correct it"):
        bench.chosen("growht")


def test_each_comparison_is_explained():
    """benchmarks/README.md has a row for each comparison, and there is a module of that name."""
    text = (ROOT / "benchmarks" / "README.md").read_text()
    folder = ROOT / "benchmarks" / "comparisons"
    assert [name for name in NAMES if f"\n| `{name}` |" not in text] == []
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(NAMES)


# --- Pipelines ------------------------------------------------------------------------------------------------------


def needs(works):
    return {work.name: work.needs for work in works}


def test_shapes():
    """A chain is a line; a fan goes from one to many to one, or stays open; a diamond is the smallest fan."""
    assert needs(pipelines.chain(3)) == {"s001": (), "s002": ("s001",), "s003": ("s002",)}
    assert needs(pipelines.fan(4)) == {"s001": (), "s002": ("s001",), "s003": ("s001",), "s004": ("s002", "s003")}
    assert needs(pipelines.open_fan(3)) == {"s001": (), "s002": ("s001",), "s003": ("s001",)}
    assert needs(pipelines.diamond()) == {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}
    assert needs(pipelines.independent(2)) == {"s001": (), "s002": ()}


@pytest.mark.parametrize("works", [pipelines.chain(199), pipelines.fan(199), [Work("files", does={"files": 3})]])
def test_a_synthetic_pipeline_is_one_of_the_projects(works):
    """The generated template renders by the project's own rules, to as many stages as it says and the model's two."""
    names = ["model", "score", *needs(works)]
    built = {name: images.Image(name, f"stages/{name}:0", {}) for name in [images.BASE, *names]}
    params = pipelines.PUBLISHING | {work.name: {"value": 0, **work.does} for work in works}
    pipeline = template.render(pipelines.template(works), params, built)
    assert list(pipeline.stages) == names
    assert [(model.maker, model.scorer) for model in pipeline.models] == [("model", "score")]


def test_the_plain_side_runs_what_the_containers_run():
    """The plain commands are the stages' programs with their arguments and parameters, and nothing of Docker."""
    files = {"inputs": {"raw": "data/raw/iris.csv"}, "outputs": {"out": "data/processed/out.csv"}}
    stage = Stage("split", "stages/split:1", **files, section={"test_size": 0.2, "seed": 3})
    assert full_run.plain_command(stage) == (
        "STAGE=split python /app/stages/split/split.py --raw data/raw/iris.csv --out data/processed/out.csv "
        "--test_size 0.2 --seed 3"
    )


# --- The engine -----------------------------------------------------------------------------------------------------


def test_shared_layers_count_once():
    """An image that starts from another one of the set adds what it has beyond that; one listed twice adds nothing."""
    base = Layers(("a", "b"), 100)
    one, two = Layers(("a", "b", "c"), 130), Layers(("a", "b", "d"), 105)
    assert engine.unique_bytes([base, one, two, one, Layers(("x",), 7)]) == 100 + 30 + 5 + 7


@pytest.mark.parametrize(
    ("folder", "stat"),
    [
        ("memory/docker/{}", "cache 5\nrss 6\ntotal_cache 50\ntotal_rss 60\n"),
        ("system.slice/docker-{}.scope", "anon 60\nfile 50\n"),
    ],
)
def test_memory_of_containers_by_either_cgroup(tmp_path, folder, stat):
    """The most memory of a container is seen under cgroup 1 and 2, without the files that the kernel keeps."""
    path = tmp_path / folder.format("0a" * 32)
    path.mkdir(parents=True)
    most = {}
    for text in (stat, stat.replace("60", "40")):
        (path / "memory.stat").write_text(text)
        cgroups.look(tmp_path, most)
    assert most == {"0a" * 32: 60}


# --- make bench -----------------------------------------------------------------------------------------------------


@pytest.mark.docker
@pytest.mark.deep
def test_make_bench_keeps_what_it_found(clone_at):
    """`make bench` shows a table, writes each time and each bound with the machine, date and commit, and cleans up."""
    clone = clone_at("bench")
    done = clone.make("bench", "QUICK=1", "ONLY=overhead")
    found = json.loads((clone.path / ".local" / "bench" / "results.json").read_text())["overhead"]
    assert found["quick"] and found["machine"].keys() == {"cores", "memory_gb", "engine", "storage"}
    assert found["commit"] == clone.git("rev-parse", "--short=12", "HEAD").strip()
    assert {len(measured["values"]) for measured in found["measured"]} == {1}
    for thing in [*(measured["name"] for measured in found["measured"]), *(bound["what"] for bound in found["bounds"])]:
        assert thing in done.stdout
    assert {"what", "value", "sign", "limit", "met"} == found["bounds"][0].keys()
    assert (clone.path / ".local" / "bench" / "results.png").exists()
    assert str(clone.path) not in json.dumps(found)
    assert not list(clone.path.glob(".local/bench-run-*"))
    assert clone.git("status", "--porcelain") == ""


@pytest.mark.docker
def test_make_bench_refuses_an_unknown_name(clone_at):
    """A name that is no comparison's ends `make bench` in one sentence, without a traceback."""
    done = clone_at("bench-refused").make("bench", "ONLY=growht", check=False)
    assert done.returncode and "error: ONLY has 'growht'" in done.stdout and "Traceback" not in done.stdout
