"""Airflow's DAG is the pipeline: its tasks and edges, what each calls, and what its end means."""

import ast
import hashlib
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

from scripts.pipeline import images, template
from scripts.project import ROOT, Project, UserError
from tests.conftest import wait_until

drawing = pytest.importorskip("scripts.airflow.drawing")
attempt = pytest.importorskip("scripts.airflow.attempt")
inputs = pytest.importorskip("scripts.airflow.inputs")
plan = pytest.importorskip("scripts.airflow.plan")

NAMES = ("a", "b", "c", "d", "e", "publish")
IMAGES = {name: images.Image(name, f"stages/{name}:0123456789ab", {}) for name in ("base", *NAMES)}
A = 'stage("a", outputs={"out": "data/a/x.csv"})'
B = 'stage("b", inputs={"x": "data/a/x.csv"}, outputs={"y": "data/b/y"})'
PIPELINES = {
    "one": [A],
    "a chain": [A, B, 'stage("c", inputs={"y": "data/b/y"}, outputs={"z": "data/c/z"})'],
    "a diamond": [
        A,
        B,
        'stage("c", inputs={"x": "data/a/x.csv"}, outputs={"z": "data/c/z"})',
        'stage("d", inputs={"y": "data/b/y", "z": "data/c/z", "x": "data/a/x.csv"}, metrics={"m": "metrics/m.json"})',
    ],
    "apart": [A, 'stage("b", inputs={"x": "data/external/x.csv"}, outputs={"y": "data/b/y"})'],
    "a file of a folder": [
        'stage("a", outputs={"out": "data/a/many"})',
        'stage("b", inputs={"one": "data/a/many/1.csv"}, outputs={"y": "data/b/y"})',
        'stage("c", inputs={"all": "data/a/many"}, outputs={"z": "data/c/z"})',
    ],
    "a folder around files": [
        'stage("a", outputs={"one": "data/a/1.csv", "two": "data/a/2.csv"})',
        'stage("b", outputs={"y": "data/b/y"})',
        'stage("c", inputs={"all": "data/a", "y": "data/b/y"}, outputs={"z": "models/z"}, plots={"p": "models/p.csv"})',
    ],
    "foreach": [
        A,
        'stage("b", inputs={"x": "data/a/x.csv"}, outputs={"y": "data/b/${item}/y"}, foreach=["fr", "d.e"])',
        'stage("c", inputs={"x": "data/b/${key}/y"}, outputs={"y": "data/c/${key}/y"},'
        ' foreach={"fr": {"depth": 1}, "d.e": {"depth": 2}})',
        'stage("d", inputs={"x": "data/c/fr/y", "y": "data/c/d.e/y"}, outputs={"z": "data/d/z"})',
    ],
    "a matrix": [
        A,
        'stage("b", inputs={"x": "data/a/x.csv"}, outputs={"y": "data/b/${item.k}-${item.n}/y"},'
        ' matrix={"k": ["p", "q"], "n": [1, 2]})',
        'stage("c", inputs={"x": "data/b/p-2/y", "all": "data/b/q-1"}, outputs={"y": "data/c/y"})',
    ],
}


def render(blocks, params=None):
    lines = "\n".join(f"{{{{ {block} }}}}" for block in blocks)
    return template.render(f"stages:\n{lines}\n", params or {}, IMAGES)


def tasks(blocks, params=None):
    return {task.stage: task for task in drawing.tasks(plan.draw(render(blocks, params)))}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """An empty repository of git and DVC."""
    root = tmp_path_factory.mktemp("repository")
    (root / ".dvc" / "tmp").mkdir(parents=True)
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    subprocess.run(["git", "init", "--quiet", root], check=True)
    return root


@pytest.mark.parametrize("name", PIPELINES)
def test_the_edges_are_those_of_dvc_dag(name, repository):
    """Every stage of `dvc dag` is a task with the same edges: of files, folders and values of a list."""
    found = render(PIPELINES[name])
    (repository / "dvc.yaml").write_text(found.text)
    shown = subprocess.run(
        [sys.executable, "-m", "dvc", "dag", "--dot"], cwd=repository, capture_output=True, text=True, check=True
    ).stdout
    lines = [line.strip().rstrip(";") for line in shown.splitlines() if '"' in line]
    edges = {tuple(word.strip('"') for word in line.split(" -> ")) for line in lines if " -> " in line}
    nodes = {line.strip('"') for line in lines if " -> " not in line} | {word for edge in edges for word in edge}
    drawn = plan.draw(found)
    assert set(drawn["stages"]) == nodes
    assert {(need, stage) for stage, said in drawn["stages"].items() for need in said["needs"]} == edges


@pytest.mark.parametrize("name", PIPELINES)
def test_the_tasks_are_the_stages_and_a_last_one(name):
    """Each task has a name that Airflow takes, comes after all it needs, and `publish` needs every other one."""
    *stages, last = drawing.tasks(plan.draw(render(PIPELINES[name])))
    seen = set()
    for task in stages:
        assert set(task.needs) <= seen
        seen.add(task.id)
        assert task.stage == drawing.only(task.id).stage, "a worker knows the stage by the task's name alone"
        assert all(each.isalnum() or each in "._-" for each in task.id)
    assert len(seen) == len(stages)
    assert (last.id, last.stage, set(last.needs)) == ("publish", "publish", seen)


def test_a_stage_of_a_list_is_in_a_group_of_its_block():
    """`b@fr` and `b@d.e` are shown as the group b; a stage that is alone has no group."""
    found = tasks(PIPELINES["foreach"])
    assert [found[name].group for name in ("a", "b@fr", "b@d.e", "d")] == ["", "b", "b", ""]


def test_a_block_names_queue_and_pool():
    """`meta` of a block says in which queue and pool its task is; others are in Airflow's own. To publish is for the
    worker beside Airflow alone, lest each machine have an MLflow of its own."""
    block = 'stage("a", outputs={"out": "data/a/x"}, meta={"queue": "gpu", "pool": "licences", "owner": "me"})'
    found = tasks([block, 'stage("b", outputs={"y": "data/b/y"})'], {"airflow": {"pools": {"licences": 2}}})
    assert (found["a"].queue, found["a"].pool) == ("gpu", "licences")
    assert [(found[name].queue, found[name].pool) for name in ("b", "publish")] == [
        ("default", "default_pool"),
        ("home", "default_pool"),
    ]
    assert drawing.queues(plan.draw(render([block], {"airflow": {"pools": {"licences": 2}}}))) == ["default", "gpu"]


@pytest.mark.parametrize(
    ("blocks", "params", "says"),
    [
        (['stage("publish", outputs={"out": "data/a/x"})'], {}, "the name publish"),
        (['stage("a", outputs={"out": "data/a/x"}, meta={"queue": 7})'], {}, "its queue is 7"),
        (['stage("a", outputs={"out": "data/a/x"}, meta={"pool": "gpu"})'], {}, "its pool gpu has no size"),
        ([A], {"airflow": {"shedule": "0 3 * * *"}}, "the key shedule"),
        ([A], {"airflow": ["0 3 * * *"]}, "has ['0 3"),
        ([A], {"airflow": {"schedule": "daily"}}, "airflow.schedule of params.yaml is 'daily'"),
        ([A], {"airflow": {"watch": 5}}, "airflow.watch of params.yaml is 5"),
        ([A], {"airflow": {"pools": {"gpu": 0}}}, "airflow.pools of params.yaml is {'gpu': 0}"),
        ([A], {"airflow": {"pools": ["gpu"]}}, "airflow.pools of params.yaml is ['gpu']"),
    ],
)
def test_what_airflow_cannot_express_is_refused(blocks, params, says):
    """A name, a value or a key that would go wrong in Airflow is refused before, in one sentence that shows it."""
    with pytest.raises(UserError) as caught:
        plan.draw(render(blocks, params))
    assert says in str(caught.value) and "; expected " in str(caught.value)


def test_inputs_are_the_files_that_no_stage_makes():
    """A file that starts a run when it changes is one that stages only read; a part of an output is none."""
    assert plan.draw(render(PIPELINES["apart"]))["inputs"] == ["data/external/x.csv"]
    assert all(plan.draw(render(PIPELINES[name]))["inputs"] == [] for name in PIPELINES if name != "apart")


def test_a_drawing_is_known_by_what_is_in_it(tmp_path):
    """Another edge or queue gives another tag, the same pipeline the same; it is written where the DAG reads it."""
    one, two = (plan.draw(render(PIPELINES[name])) for name in ("a chain", "a diamond"))
    assert drawing.digest(one) == drawing.digest(plan.draw(render(PIPELINES["a chain"])))
    queued = plan.draw(render([A.replace("})", '}, meta={"queue": "q"})'), *PIPELINES["a chain"][1:]]))
    assert len({drawing.digest(each) for each in (one, two, queued)}) == 3
    plan.write(one, Project(tmp_path))
    assert '"a"' in (tmp_path / ".local" / "airflow" / "drawing" / "pipeline.json").read_text()


# --- what a task calls


@pytest.mark.parametrize(
    ("run", "folder"),
    [
        ("20261127T124021-f64c31c5", "20261127T124021-f64c31c5"),
        ("manual__2026-11-27T12:40:21.5+00:00_ab", "manual__2026-11-27T12-40-21.5-00-00_ab-332c88a5"),
        ("manual__2026-11-27T12-40-21.5+00:00_ab", "manual__2026-11-27T12-40-21.5-00-00_ab-8a5ae470"),
        ("../a b/ä,{}", "-a-b------6ac46e33"),
        ("..", "-5ec1f7e7"),
    ],
)
def test_a_task_calls_one_program(run, folder):
    """The words are those of task.sh; a run's id is a folder's name that Docker can mount, whoever chose the id."""
    words = ["sh", "scripts/airflow/task.sh", folder, "b@fr", "2", "c" * 40]
    assert drawing.command(run, "b@fr", 2, "c" * 40, "") == words
    assert drawing.command(run, "b@fr", 2, "c" * 40, "d" * 64) == [*words, "d" * 64]


def called(script, tmp_path):
    said = []
    return attempt.Attempt(["sh", "-c", script], tmp_path).run(said.append), said


@pytest.mark.parametrize("code", [0, 1, 2, 75, 137])
def test_the_exit_code_is_the_programs(code, tmp_path):
    """Whether a task is tried again is decided by the exit code alone; the sentence is the last error, whatever else is
    said after it."""
    lines = ["error: not this one", "error: the sentence", "this attempt is kept", "make: *** [x] Error 1"]
    end, said = called("\n".join([*(f"echo '{line}'" for line in lines), f"exit {code}"]), tmp_path)
    assert end == (code, "error: the sentence")
    assert said == lines
    assert called(f"echo one; echo two; echo 'make: *** [x] Error 1' >&2; exit {code}", tmp_path)[0] == (code, "two")


@pytest.mark.parametrize(
    ("script", "code", "sentence"),
    [
        ("kill -9 $$", 137, "sh ended with -9 and said nothing"),
        ("exit 3", 3, "sh ended with 3 and said nothing"),
        ("echo 'make[1]: *** [x] Error 2'; exit 2", 2, "sh ended with 2 and said nothing"),
    ],
)
def test_who_says_nothing_has_a_sentence_all_the_same(script, code, sentence, tmp_path):
    """A program that is killed or silent ends in a sentence that says so."""
    assert called(script, tmp_path)[0] == (code, sentence)


def test_what_a_stage_prints_has_no_power_over_a_page(tmp_path):
    """Control characters, endless lines and bytes that are no text are shown as harmless pieces."""
    end, said = called(r"printf 'a\033[2Jb\n\377\n10%%\r100%%\n'; head -c 5000 /dev/zero | tr '\0' x", tmp_path)
    assert said[:3] == ["a?[2Jb", "\N{REPLACEMENT CHARACTER}", "100%"]
    assert max(map(len, said)) <= attempt.LONGEST and end.code == 0


def test_a_task_that_is_stopped_leaves_no_process(tmp_path):
    """To stop a task ends all its processes; also one that a shell has in the background."""
    running = attempt.Attempt(["sh", "-c", "sleep 60 & echo $! > pid; wait"], tmp_path)
    thread = threading.Thread(target=running.run, args=[lambda line: None])
    thread.start()
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and pid.read_text().strip(), "the program to begin")
    running.stop()
    thread.join(10)
    assert not thread.is_alive()
    status = Path("/proc", pid.read_text().strip(), "status")
    wait_until(lambda: not status.exists() or "zombie" in status.read_text(), "its other process to end", 5)


def test_a_task_may_be_stopped_before_it_begins(tmp_path):
    """A stop that comes as a task is just beginning is not lost."""
    running = attempt.Attempt(["sleep", "60"], tmp_path)
    running.stop()
    assert running.run(lambda line: None).code == 128 + 15


# --- a patch travels


def test_a_patch_arrives_as_it_was(tmp_path):
    """What is not committed arrives byte for byte, and lies under its hash, readable by its owner alone."""
    patch = b"diff\n\0\xff" * 1000
    name = attempt.keep(attempt.unpacked(attempt.packed(patch), hashlib.sha256(patch).hexdigest()), tmp_path)
    path = tmp_path / ".local" / "airflow" / "patches" / f"{name}.patch"
    assert path.read_bytes() == patch and path.stat().st_mode & 0o777 == 0o600
    assert attempt.keep(patch, tmp_path) == name and len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize(
    "text",
    [
        attempt.packed(b"another"),
        "no base64!",
        attempt.base64.b64encode(b"no zlib").decode(),
        attempt.packed(b"\0" * (attempt.LARGEST + 1)),
        attempt.base64.b64encode(zlib.compress(b"\0" * (1 << 26))).decode(),
    ],
    ids=["another one", "no base64", "no zlib", "too large", "a bomb"],
)
def test_another_patch_is_refused(text):
    """A patch that is not the one of the hash, or unpacks to more than may travel, is not applied."""
    with pytest.raises(ValueError):
        attempt.unpacked(text, hashlib.sha256(b"the one").hexdigest())


# --- changed inputs


def test_a_changed_input_is_seen_once(tmp_path):
    """The first look says no; a change of a file, in a folder too, or its coming and going, is seen once."""
    for name in ("x.csv", "folder/y.csv"):
        path, watched = tmp_path / name, name.partition("/")[0]
        assert [inputs.has_changed(watched, tmp_path) for _ in range(2)] == [False, False]
        path.parent.mkdir(exist_ok=True)
        for change in (lambda p: p.write_text("1"), lambda p: p.write_text("2"), lambda p: p.unlink()):
            change(path)
            assert [inputs.has_changed(watched, tmp_path) for _ in range(2)] == [True, False]


# --- Airflow reads it again and again


@pytest.mark.parametrize("name", ["drawing.py", "attempt.py", "inputs.py", "dags/pipeline.py"])
def test_the_dag_imports_nothing_heavy(name):
    """What Airflow reads imports Python's own library, its neighbours and Airflow: no DVC, no machinery."""
    tree = ast.parse((ROOT / "scripts" / "airflow" / name).read_text())
    nodes = list(ast.walk(tree))
    found = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    others = {module for module in found if module.partition(".")[0] not in sys.stdlib_module_names}
    assert others <= ({"airflow.sdk", "airflow.sdk.exceptions", "scripts.airflow"} if "/" in name else set())


def test_a_drawing_may_be_long():
    """A chain of a thousand stages is read as a thousand tasks, and the one that publishes."""
    stages = {f"s{n}": {"needs": [f"s{n - 1}"] if n else [], "queue": None, "pool": None} for n in range(1000)}
    assert len(drawing.tasks({"stages": stages})) == 1001
