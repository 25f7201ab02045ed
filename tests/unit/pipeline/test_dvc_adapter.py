"""What the project uses of DVC is there, and does what the project takes it to do."""

import ast
import hashlib
import importlib
import inspect
import io
import json
import logging
import os
import shutil
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from scripts.pipeline import dvc_adapter, dvc_faster
from scripts.project import Project, UserError
from scripts.recovery import dvc_files
from scripts.yaml12 import load_yaml

USED = {
    # name of the thing: its parameters that are used (None: it is not called), and what for
    "dvc.config.Config": (["dvc_dir", "validate"], "which reads its config files"),
    "dvc.config.Config.edit": (["self", "level", "validate"], "which writes one of them"),
    "dvc.cachemgr.CacheManager.local_cache_dir": (None, "which says where the cache is"),
    "dvc.dependency.param.load_path": (["fs_path", "fs"], "by which it reads a file of parameters"),
    "dvc.dependency.param.read_param_file": (["fs", "path", "key_paths", "flatten"], "by which it reads some of them"),
    "dvc.dependency.ParamsDependency": (None, "which a stage's parameters are"),
    "dvc.dependency.ParamsDependency.read_params": (["self"], "which reads params.yaml"),
    "dvc.dvcfile.FileMixin._load_yaml": (None, "which reads dvc.yaml and dvc.lock"),
    "dvc.dvcfile.FileMixin": (None, "which dvc.yaml and dvc.lock are"),
    "dvc.dvcfile.FileMixin.validate": (None, "which checks what was read"),
    "dvc.data_cloud.DataCloud.get_remote_odb": (["self", "hash_name"], "which gives the default remote"),
    "dvc.exceptions.DvcException": (None, "which is what it raises"),
    "dvc.lock.LockBase": (None, "which its lock of a repository is"),
    "dvc.lock.LockBase.lock": (["self"], "which takes the lock"),
    "dvc.lock.LockBase.unlock": (["self"], "which gives it back"),
    "dvc.lock.LockBase.is_locked": (None, "which says whether it is taken"),
    "dvc.lock.LockBase.lockfile": (None, "beside which the stages of a run queue up"),
    "dvc.repo.Repo": (["root_dir", "_wait_for_lock"], "which opens a repository and waits for its lock"),
    "dvc.repo.Repo.index": (None, "which holds all stages"),
    "dvc.repo.Repo.pull": (["run_cache", "allow_missing"], "which fetches data and run-cache"),
    "dvc.repo.Repo.push": (["run_cache"], "which sends data and run-cache"),
    "dvc.repo.Repo.scm_context": (None, "in which git is told of outputs"),
    "dvc.repo.index.Index.graph": (None, "which says what needs what"),
    "dvc.repo.index.Index.outs": (None, "which lists the outputs"),
    "dvc.output.Output": (None, "which outputs and dependencies are"),
    "dvc.output.Output.workspace_status": (["self"], "which compares a file with dvc.lock"),
    "dvc.output.Output.status": (["self"], "which looks into the cache as well"),
    "dvc.output.Output.get_hash": (["self"], "which gives a file's hash as it is"),
    "dvc.output.Output.get_meta": (["self"], "which gives its size"),
    "dvc.output.Output.get_obj": (["filter_info"], "which finds a part of a folder"),
    "dvc.output.Output.save": (["self"], "which notes a file as it is"),
    "dvc.rwlock.rwlock": (["tmp_dir"], "which notes who reads and writes what in a folder that it is told"),
    "dvc.rwlock.RWLOCK_FILE": (None, "which is the name of that note"),
    "dvc.stage.decorators.rwlocked": (None, "which looks that function up at each call"),
    "dvc.stage.Stage.save": (["self"], "which notes inputs and outputs as they are"),
    "dvc.stage.Stage.commit": (["self"], "which brings outputs into the cache"),
    "dvc.stage.Stage.save_deps": (["self"], "which notes the inputs as they are"),
    "dvc.stage.Stage.params": (None, "which lists its parameters"),
    "dvc.output.Output.exists": (None, "which says whether an output is there"),
    "dvc.output.Output.remove": (["self"], "which deletes an output"),
    "dvc.repo.reproduce.get_active_graph": (["graph"], "which leaves frozen stages out"),
    "dvc.repo.reproduce.plan_repro": (["graph", "stages"], "which puts stages in order"),
    "dvc.stage.Stage": (None, "which its stages are"),
    "dvc.stage.Stage.addressing": (None, "which is a stage's name"),
    "dvc.stage.Stage.changed": (["self"], "which says whether a stage is to be reproduced"),
    "dvc.stage.Stage.outs_cached": (["self"], "which says whether the cache has a stage's outputs"),
    "dvc.stage.Stage.reproduce": (["self"], "which restores or runs a stage"),
    "dvc.stage.Stage.dump": (["self", "update_pipeline"], "which writes a stage's entry of dvc.lock"),
    "dvc.dvcfile.ProjectFile.dump": (["update_pipeline"], "which is told to leave dvc.yaml alone"),
    "dvc.stage.cache.StageCache.transfer": (None, "which copies the run-cache"),
    "dvc.stage.cache._get_cache_hash": (["cache", "key"], "which names an entry of the run-cache"),
    "dvc.stage.cache._get_stage_hash": (["stage"], "which names what the run-cache has of a stage"),
    "dvc.stage.Stage.changed_stage": (["self"], "which says whether a stage's commands have changed"),
    "dvc.stage.Stage.changed_deps": (["self"], "which says whether its inputs have"),
    "dvc.stage.Stage.checkout": (["self"], "which puts a stage's outputs in place"),
    "dvc.stage.Stage.get_used_objs": (["self"], "which names the objects of its outputs"),
    "dvc.stage.cache.StageCache.restore": (["stage"], "which restores a stage's outputs"),
    "dvc.stage.cache.StageCache._load": (["stage"], "which finds the run-cache's entry of a stage"),
    "dvc.stage.cache.StageCache._load_cache": (["key", "value"], "which reads an entry of the run-cache"),
    "dvc.stage.cache.StageCache._create_stage": (["cache", "wdir"], "which makes a stage of an entry"),
    "dvc.stage.cache._can_hash": (["stage"], "which says whether the run-cache may have a stage"),
    "dvc.stage.cache.RunCacheNotFoundError": (None, "which says that it has not"),
    "dvc.stage.decorators.unlocked_repo": (["f"], "which lets others work meanwhile"),
    "dvc.stage.serialize.to_single_stage_lockfile": (["stage"], "which is a stage's entry"),
    "dvc.data_cloud.DataCloud.pull": (["objs"], "which fetches objects"),
    "dvc.data_cloud.DataCloud.push": (["objs"], "which sends objects"),
    "dvc.output.Output.checkout": (["force"], "which puts an output in place"),
    "dvc.output.Output.get_used_objs": (["self"], "which names the objects of an output"),
    "dvc.output.Output.changed_cache": (["self"], "which says whether the cache lacks an output"),
    "dvc.stage.cache.RunCacheNotSupported": (None, "which says that a remote has no run-cache"),
    "dvc.stage.exceptions.StageCmdFailedError": (["cmd", "status"], "which is a stage's failure"),
    "dvc.stage.run.cmd_run": (["stage"], "which the project runs stages through"),
    "dvc.stage.run.prepare_kwargs": (["stage"], "which says where and with what variables a command runs"),
    "dvc.stage.run.run_stage": (None, "which calls cmd_run"),
    "dvc.repo.scm_context.SCMContext.__call__": (["quiet"], "which keeps hints about git quiet"),
    "dvc.parsing.context.Context": (None, "which holds parameters"),
    "dvc.parsing.context.Context.resolve_str": (["src", "config"], "which fills them in in a command"),
    "dvc.parsing.interpolate.to_str": (["obj", "config"], "which writes parameters as arguments"),
    "dvc.utils.serialize.dump_yaml": (["path", "data"], "which writes dvc.lock"),
    "dvc.utils.serialize.dumps_yaml": (["d"], "which prints an entry of dvc.lock"),
    "dvc.stage.PipelineStage": (None, "which stages of dvc.yaml are"),
    "dvc.repo.scm_context.SCMContext.track_file": (["paths"], "which git may be told of"),
    "dvc_data.hashfile.db.HashFileDB": (None, "which a cache and a remote are"),
    "dvc_data.hashfile.db.HashFileDB.oid_to_path": (["oid"], "which says where an object is"),
    "dvc_data.hashfile.db.HashFileDB.exists": (["oid"], "which says whether an object is there"),
    "dvc_data.hashfile.hash.file_md5": (["fname"], "which gives a file's digest"),
    "dvc_data.hashfile.hash_info.HashInfo": (["name", "value"], "which a digest is"),
    "dvc_data.hashfile.tree.Tree": (None, "which gives a folder's digest"),
    "dvc_data.hashfile.tree.Tree.from_list": (["lst", "hash_name"], "which reads the list of a folder"),
    "dvc_data.hashfile.tree.Tree.add": (["key", "meta", "oid"], "which adds a file to a folder"),
    "dvc_data.hashfile.tree.Tree.digest": (["self"], "which computes a folder's digest"),
    "dvc_objects.fs.local.copyfile": (["source", "target", "callback"], "by which it copies a file on one machine"),
    "dvc_objects.fs.utils.copyfile": (["src", "dest", "callback"], "whose place that takes"),
    "dvc_objects.fs.localfs": (None, "which the files of this machine are"),
    "dvc_objects.executors.batch_coros": (["coros", "batch_size"], "which runs coroutines, some at once"),
    "dvc_objects.errors.ObjectDBError": (None, "which its object stores raise"),
    "dvc_objects.fs.errors.AuthError": (None, "which its file systems raise"),
    "dvc_objects.fs.generic.copy": (["from_fs", "from_path", "to_fs", "to_path"], "which copies a file to a remote"),
    "dvc_objects.fs.generic.log_exceptions": (["func"], "which logs what fails"),
    "dvc_objects.fs.errors.ConfigError": (None, "which its file systems raise"),
    "tqdm.tqdm.monitor_interval": (None, "which keeps its progress bars from starting a thread"),
}


def found(name):
    """Return the thing of a dotted name. Raise LookupError if there is none."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            thing = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            # Of a class not the value but the descriptor: to ask a cached property for its value would compute it.
            thing = inspect.getattr_static(thing, part, None) if inspect.isclass(thing) else getattr(thing, part, None)
            if thing is None:
                raise LookupError(name)
        return thing
    raise LookupError(name)


def lacks(name):
    """Return a sentence on what DVC lacks of a thing that is used; empty if all of it is there."""
    wanted, what_for = USED[name]
    dvc = f"DVC {version('dvc')}"
    try:
        thing = found(name)
    except LookupError:
        return f"{dvc} lacks {name}, {what_for}: pin another version"
    parameters = inspect.signature(thing).parameters if wanted else {}
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if missing := [parameter for parameter in wanted or [] if parameter not in parameters and not takes_any]:
        return f"{dvc} lacks the parameter {missing[0]} of {name}, {what_for}: pin another version"
    return ""


@pytest.mark.parametrize("name", USED)
def test_dvc_has_what_is_used_of_it(name):
    """Each thing of DVC that the project uses is there, with the parameters that are given to it."""
    assert not lacks(name), lacks(name)


def test_what_dvc_lacks_is_said_in_a_sentence(monkeypatch):
    """A DVC without one of these things, or with other parameters, is told apart, in words that name the thing."""
    monkeypatch.delattr("dvc.stage.run.cmd_run")
    assert lacks("dvc.stage.run.cmd_run") == (
        f"DVC {version('dvc')} lacks dvc.stage.run.cmd_run, which the project runs stages through: pin another version"
    )
    monkeypatch.delattr("dvc.stage.Stage.outs_cached")
    assert "lacks dvc.stage.Stage.outs_cached" in lacks("dvc.stage.Stage.outs_cached")
    monkeypatch.setattr("dvc.stage.Stage.dump", lambda self: None)
    assert "lacks the parameter update_pipeline of dvc.stage.Stage.dump" in lacks("dvc.stage.Stage.dump")
    monkeypatch.setitem(USED, "dvc.no_such.thing", (None, "which is not there"))
    assert "lacks dvc.no_such.thing" in lacks("dvc.no_such.thing")


def imported(source):
    """Return the dotted names of DVC and its parts that a module imports, or reads as `dvc.a.b.c`."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            names.add(ast.unparse(node))
    names = {name for name in names if name.split(".")[0] in ("dvc", "dvc_data", "dvc_objects", "tqdm")}
    return {name for name in names if not any(other.startswith(f"{name}.") for other in names)}


def test_all_that_is_imported_of_dvc_is_named_here():
    """The table above has each thing that is imported, so that none is used unseen."""
    used = imported(Path(dvc_adapter.__file__).read_text()) | imported(Path(dvc_faster.__file__).read_text())
    assert "dvc.stage.run.cmd_run" in used and "dvc.repo.reproduce.plan_repro" in used
    assert used - set(USED) == set(), "add them to USED"


def test_attributes_of_instances_are_there(pipeline):
    """What a repository and a stage have only once they are made is there, too."""
    project = pipeline(a="true")
    with dvc_adapter.repository(project.root) as repo:
        stage = dvc_adapter.plan(repo, []).stages["a"]
        names_of_a_stage = ("cmd", "cmd_changed", "repo", "name", "path")
        for thing, names in ((repo, ("lock", "state", "cache", "cloud")), (stage, names_of_a_stage)):
            for name in names:
                assert hasattr(thing, name), f"DVC {version('dvc')} lacks {name} of {thing!r}: pin another version"
        assert Path(repo.cache.legacy.path) == project.cache and callable(repo.state.close)
        assert repo.cache.local is not None
        (out,) = stage.outs
        assert not out.hash_info and str(out) == "a.out"
        assert (out.protocol, out.use_cache, stage.always_changed) == ("local", True, False)


def test_dvc_calls_the_function_that_is_replaced():
    """DVC looks up `cmd_run` in its module each time it runs a stage: what is put there is what it calls."""
    run_stage = found("dvc.stage.run.run_stage")
    assert run_stage.__globals__ is vars(importlib.import_module("dvc.stage.run"))
    assert "cmd_run" in run_stage.__code__.co_names, f"DVC {version('dvc')} does not call cmd_run: pin another version"


# --- a pipeline of DVC


@pytest.fixture
def pipeline(project):
    """Make a pipeline of the given commands; `b_a` is a stage `b` that reads what `a` writes. Each writes NAME.out."""

    def make(**commands):
        blocks = {}
        for title, command in commands.items():
            name, *needs = title.split("_")
            block = {"cmd": [command, f"echo {name} > {name}.out"], "outs": [f"{name}.out"]}
            blocks[name] = block | ({"deps": [f"{need}.out" for need in needs]} if needs else {})
        project.dvc_yaml.write_text(yaml.safe_dump({"stages": blocks}, sort_keys=False))
        return project

    return make


@pytest.fixture
def reproduce(monkeypatch):
    """Return a function that reproduces one stage; it returns the result and what was called."""
    original = found("dvc.stage.run.cmd_run")

    def call(project, name, run_commands=None, fetch=lambda stage: False, mend=lambda key: None):
        monkeypatch.setattr("dvc.stage.run.cmd_run", original)  # it is replaced for good: see `reproduce`
        heard = []

        def hook(by_dvc):
            heard.append("runs")
            run_commands(by_dvc) if run_commands else by_dvc(dvc_adapter.command_of(stage))

        with dvc_adapter.repository(project.root) as repo:
            stage = dvc_adapter.plan(repo, [name]).stages[name]
            kept = partial(heard.append, "kept")
            return dvc_adapter.reproduce(stage, hook, fetch=fetch, mend=mend, kept=kept), heard

    yield call
    monkeypatch.setattr("dvc.stage.run.cmd_run", original)


def test_a_stage_is_run_by_dvc_when_the_hook_lets_it(pipeline, reproduce):
    """The hook is called once DVC is about to run the command; dvc.lock is written before it is kept."""
    project = pipeline(a="true")
    locked = []

    def look(by_dvc):
        locked.append(project.dvc_lock.exists())
        by_dvc(["true", "echo a > a.out"])

    assert reproduce(project, "a", look) == (True, ["runs", "kept"])
    assert locked == [False]
    assert (project.root / "a.out").read_text() == "a\n"
    assert list(load_yaml(project.dvc_lock.read_text())["stages"]) == ["a"]


def test_the_hook_may_do_the_commands_work(pipeline, reproduce):
    """What the hook makes in place of the command is what DVC records, and the command does not run."""
    project = pipeline(a="touch ran")
    assert reproduce(project, "a", lambda by_dvc: Path("a.out").write_text("mine"))[0]
    (out,) = load_yaml(project.dvc_lock.read_text())["stages"]["a"]["outs"]
    assert out["md5"] == hashlib.md5(b"mine", usedforsecurity=False).hexdigest()
    assert not Path("ran").exists()


def test_nothing_is_run_or_kept_for_a_stage_that_has_not_changed(pipeline, reproduce):
    """An unchanged stage calls neither the hook nor what is to be called after dvc.lock was written."""
    project = pipeline(a="true")
    reproduce(project, "a")
    assert reproduce(project, "a") == (False, [])


def test_a_stage_that_is_restored_is_not_run(pipeline, reproduce):
    """Outputs that DVC's run-cache has are restored without the hook, and dvc.lock is kept."""
    Path("x.out").touch()  # DVC keeps no outputs of a stage without inputs
    project = pipeline(a_x="true")
    reproduce(project, "a")
    Path("a.out").unlink()
    project.dvc_lock.unlink()
    assert reproduce(project, "a") == (True, ["kept"])
    assert Path("a.out").read_text() == "a\n"


def test_what_the_run_cache_has_is_mended_before_it_is_restored(pipeline, reproduce):
    """Before DVC reads a result of the run-cache it is said which, and what was damaged is made again."""
    Path("x.out").touch()
    project = pipeline(a_x="true")
    reproduce(project, "a")
    project.dvc_lock.unlink()
    (entry,) = (project.cache / "runs").glob("*/*/*")
    keys = []

    def mend(key):
        keys.append(key)
        dvc_files.mend_results(project, key)

    (out,) = load_yaml(entry.read_text())["outs"]
    damaged = dvc_files.cached(project, out["md5"])
    damaged.chmod(0o644)
    damaged.write_text("")
    damaged.chmod(0o444)
    assert reproduce(project, "a", mend=mend) == (True, ["runs", "kept"])
    assert {*keys} == {entry.parent.name} and Path("a.out").read_text() == "a\n" == damaged.read_text()


def test_a_failed_command_is_dvcs_own_error(pipeline, reproduce):
    """A hook may say that the command failed as DVC does, with the code that it ended with."""
    project = pipeline(a="exit 7")
    with pytest.raises(dvc_adapter.DvcException) as by_dvc:
        reproduce(project, "a")

    def fail(by_dvc):
        raise dvc_adapter.failed(stage, 7)

    with dvc_adapter.repository(project.root) as repo:
        stage = dvc_adapter.plan(repo, []).stages["a"]
    with pytest.raises(dvc_adapter.DvcException, match=r"exited with 7$") as by_us:
        reproduce(project, "a", fail)
    assert type(by_us.value) is type(by_dvc.value) and str(by_dvc.value).endswith("exited with 7")


# --- plans


def test_a_plan_has_what_the_targets_need(pipeline):
    """Each stage comes after all that it needs; without targets all stages are there."""
    project = pipeline(a="true", b_a="true", c_b="true", d="true")
    with dvc_adapter.repository(project.root) as repo:
        planned = dvc_adapter.plan(repo, ["b"])
        assert list(planned.stages) == ["a", "b"] and planned.needs == {"a": [], "b": ["a"]}
        assert set(dvc_adapter.plan(repo, []).stages) == set("abcd")
        with pytest.raises(UserError, match="there is no stage x; expected one of a, b, c, d"):
            dvc_adapter.plan(repo, ["x"])


def test_what_changed_is_what_must_be_looked_at(pipeline, reproduce):
    """A stage with another command has changed, and so has, as far as is known, all that needs it."""
    project = pipeline(a="true", b_a="true", c="true")
    for name in "abc":
        reproduce(project, name)
    with dvc_adapter.repository(project.root) as repo:
        assert dvc_adapter.changed(repo, dvc_adapter.plan(repo, [])).stages == {}
    pipeline(a="true # edited", b_a="true", c="true")
    with dvc_adapter.repository(project.root) as repo:
        todo = dvc_adapter.changed(repo, dvc_adapter.plan(repo, []))
        assert list(todo.stages) == ["a", "b"] and todo.needs == {"a": [], "b": ["a"]}


def test_a_look_writes_no_list(pipeline, reproduce, monkeypatch):
    """To look at stages, DVC's list of who reads and writes what is not written; afterwards it is again."""
    project = pipeline(a="true", b_a="true")
    reproduce(project, "a")
    edits = []
    edit = found("dvc.rwlock._edit_rwlock")
    monkeypatch.setattr("dvc.rwlock._edit_rwlock", lambda *where: edits.append(1) or edit(*where))
    with dvc_adapter.repository(project.root) as repo:
        planned = dvc_adapter.plan(repo, [])
        assert [*dvc_adapter.changed(repo, planned).stages] == ["b"] and not edits
        with repo.lock:
            planned.stages["a"].changed()
    assert edits


def test_a_look_waits_for_who_writes(pipeline, reproduce):
    """If DVC's list says that another process writes an output, looking at it is refused as DVC does."""
    project = pipeline(a="true")
    reproduce(project, "a")
    writer = {"pid": os.getpid(), "cmd": "dvc repro"}
    project.rwlock.write_text(json.dumps({"write": {str(project.root / "a.out"): writer}, "read": {}}))
    with dvc_adapter.repository(project.root) as repo:
        planned = dvc_adapter.plan(repo, [])
        with pytest.raises(dvc_adapter.DvcException, match="busy"):
            dvc_adapter.changed(repo, planned)


def test_a_plan_says_by_which_files_it_is_decided(project, reproduce):
    """They are each stage's inputs and outputs, and the objects of these in the cache, of a folder each file's."""
    (project.root / "raw.csv").write_text("1\n")
    commands = {"cmd": ["mkdir many", "echo 1 > many/one", "echo 2 > many/two", "echo 3 > noted"]}
    a = commands | {"deps": ["raw.csv"], "outs": ["many", {"noted": {"cache": False}}]}
    project.dvc_yaml.write_text(yaml.safe_dump({"stages": {"a": a}}))
    reproduce(project, "a")
    with dvc_adapter.repository(project.root) as repo:
        found = dvc_adapter.files_of(dvc_adapter.plan(repo, []))
    in_cache = [path for path in map(Path, found) if path.is_relative_to(project.cache)]
    assert {*map(Path, found)} - {*in_cache} == {project.root / name for name in ("raw.csv", "many", "noted")}
    assert len(in_cache) == 3 and all(path.exists() for path in in_cache)


@pytest.mark.parametrize(
    "more",
    [{"always_changed": True, "outs": ["a.out"]}, {"deps": ["https://example.com/raw.csv"]}],
    ids=["always changed", "not on a disk"],
)
def test_no_files_decide_what_is_asked_for_anew_each_time(project, more):
    """A stage that counts as changed in any case, or that reads what is on no disk here, is not decided by files."""
    project.dvc_yaml.write_text(yaml.safe_dump({"stages": {"a": {"cmd": "true"} | more}}))
    with dvc_adapter.repository(project.root) as repo:
        assert dvc_adapter.files_of(dvc_adapter.plan(repo, [])) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stages: {a: {cmd: x, outs: [x]}, b: {cmd: x, outs: [x]}}", "DVC cannot use this pipeline: "),
        ("stages: {a: {cmd: x, outts: [x]}}", "DVC cannot use this pipeline: "),
        ("stages: [", "DVC cannot use this pipeline: "),
    ],
    ids=["two makers", "an unknown key", "no YAML"],
)
def test_a_pipeline_that_dvc_refuses_is_a_users_mistake(project, text, says):
    """What DVC says of a dvc.yaml becomes one line that a user can act on."""
    project.dvc_yaml.write_text(text)
    with pytest.raises(UserError) as told, dvc_adapter.errors(), dvc_adapter.repository(project.root) as repo:
        dvc_adapter.plan(repo, [])
    assert str(told.value).startswith(says) and "\n" not in str(told.value)


@pytest.mark.parametrize("text", ["<<<<<<< mine\nschema: '2.0'\n", "schema: '2.0'\nstages: {a: 3}\n"])
def test_a_damaged_dvc_lock_is_a_users_mistake(pipeline, text):
    """A dvc.lock with conflicts of a merge, or with other things in it, is named, with what to do."""
    project = pipeline(a="true")
    project.dvc_lock.write_text(text)
    with (
        pytest.raises(UserError, match=r"^dvc\.lock is damaged, or a merge left it with conflicts; expected"),
        dvc_adapter.errors(),
        dvc_adapter.repository(project.root) as repo,
    ):
        dvc_adapter.changed(repo, dvc_adapter.plan(repo, []))


# --- the run-cache


def must_run(project):
    """Return the stages that DVC cannot have outputs of, as the project tells it."""
    with dvc_adapter.repository(project.root) as repo:
        cached = dvc_adapter.cached_commands(repo)
        todo = dvc_adapter.plan(repo, []).stages
        return [name for name, stage in todo.items() if dvc_adapter.must_run(repo, stage, cached)]


def test_a_stage_must_run_if_dvc_has_no_outputs_of_its_command(pipeline, reproduce):
    """Neither a stage of dvc.lock nor one whose command is in the run-cache is certain to run; a new command is."""
    Path("x.out").touch()  # DVC keeps no outputs of a stage without inputs
    project = pipeline(a_x="true", b_a="true")
    assert must_run(project) == ["a", "b"]
    reproduce(project, "a")
    assert must_run(project) == ["b"]
    reproduce(project, "b")
    assert must_run(project) == []
    project.dvc_lock.unlink()
    assert must_run(project) == [], "the run-cache has both"
    pipeline(a_x="true", b_a="true # edited")
    assert must_run(project) == ["b"]


def test_a_stage_whose_outputs_are_lost_may_still_be_restored(pipeline, reproduce):
    """Only DVC can tell whether a command of the run-cache has these very inputs: it is not certain to run."""
    Path("x.out").touch()
    project = pipeline(a_x="true")
    reproduce(project, "a")
    Path("a.out").unlink()
    Path("x.out").write_text("edited")
    assert must_run(project) == []


def test_the_commands_of_the_run_cache_are_those_of_the_stages(pipeline, reproduce):
    """A command is found with all its lines, as DVC has filled in its parameters."""
    Path("x.out").touch()
    project = pipeline(a_x="true")
    with dvc_adapter.repository(project.root) as repo:
        assert dvc_adapter.cached_commands(repo) == set()
    reproduce(project, "a")
    with dvc_adapter.repository(project.root) as repo:
        assert dvc_adapter.cached_commands(repo) == {("true", "echo a > a.out")}
        assert dvc_adapter.command_of(dvc_adapter.plan(repo, []).stages["a"]) == ("true", "echo a > a.out")


def test_a_damaged_entry_of_the_run_cache_is_passed_over(pipeline):
    """An entry that is cut off, or is no mapping, has no command, and is no fault of the run."""
    project = pipeline(a="true")
    damaged = ["", "- x", "cmd:", "3", "deps: []", "cmd: [", "cmd: {a: b}", "cmd: [{}]", "\xff", "cmd: 2020-99-99"]
    for number, text in enumerate([*damaged, "cmd: echo"]):
        folder = project.cache / "runs" / "ab" / f"ab{number}"
        folder.mkdir(parents=True)
        (folder / "entry").write_bytes(text.encode("latin-1"))
    with dvc_adapter.repository(project.root) as repo:
        assert dvc_adapter.cached_commands(repo) == {("echo",)}


# --- cache and remote


@pytest.fixture
def ran(pipeline, reproduce):
    """Return a project whose two stages have run, with a remote that is a folder of its own."""
    Path("x.out").touch()  # DVC keeps no outputs of a stage without inputs
    project = pipeline(a_x="true", b_a="true")
    for name in "ab":
        reproduce(project, name)
    return project


def test_what_is_pushed_can_be_pulled(ran, reproduce):
    """Data and run-cache go to the default remote and come back from it."""
    with dvc_adapter.repository(ran.root) as repo:
        assert dvc_adapter.push(repo) > 0
    shutil.rmtree(ran.cache)
    Path("b.out").unlink()
    with dvc_adapter.repository(ran.root) as repo:
        assert dvc_adapter.pull(repo) > 0
        assert dvc_adapter.cached_commands(repo) == {("true", "echo a > a.out"), ("true", "echo b > b.out")}
    assert Path("b.out").read_text() == "b\n"


def test_what_is_damaged_on_the_remote_is_not_taken(project, pipeline, reproduce):
    """Neither a file nor one of a folder, although its date and rights are as they were; where it is is told."""
    Path("x.out").touch()
    pipeline(a_x="true", b_x="mkdir b.d; echo 1 > b.d/1; echo 2 > b.d/2")
    blocks = yaml.safe_load(project.dvc_yaml.read_text())
    blocks["stages"]["b"]["outs"] = ["b.d"]
    project.dvc_yaml.write_text(yaml.safe_dump(blocks))
    for name in "ab":
        reproduce(project, name)
    with dvc_adapter.repository(project.root) as repo:
        dvc_adapter.push(repo)
        a, b = dvc_adapter.outputs(repo)
        assert not dvc_adapter.refused(repo, a) and not dvc_adapter.refused(repo, b)
        there = dvc_adapter.remote_of(repo)
        damaged = [Path(dvc_adapter.path_of(there, dvc_adapter.md5(Path(each)))) for each in ("a.out", "b.d/2")]
    for path in damaged:
        about = path.stat()
        path.chmod(0o644)
        path.write_text("X\n")
        path.chmod(about.st_mode)
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    shutil.rmtree(project.cache)
    shutil.rmtree("b.d")
    Path("a.out").unlink()
    with dvc_adapter.repository(project.root) as repo:
        dvc_adapter.pull(repo)
        assert [dvc_adapter.refused(repo, each) for each in (a, b)] == [[f"{path}"] for path in damaged]
    assert not Path("a.out").exists() and not Path("b.d/2").exists()


@pytest.mark.parametrize("name", ["../x", "../../x", "b/../../x", "/x", "", ".", "b/./x", "b//x", 1])
def test_a_list_that_names_what_is_not_in_its_folder_is_refused(project, pipeline, name):
    """DVC would write there what a remote gives for a hash in dvc.lock; nothing is written, and a sentence says so."""
    project.dvc_yaml.write_text(yaml.safe_dump({"stages": {"a": {"cmd": "true", "outs": ["a.d"]}}}))
    data = hashlib.md5(b"bad").hexdigest()
    listing = json.dumps([{"md5": data, "relpath": "good"}, {"md5": data, "relpath": name}]).encode()
    digest = hashlib.md5(listing).hexdigest()
    for oid, content in ((data, b"bad"), (f"{digest}.dir", listing)):
        path = project.root / ".local" / "dvc-remote" / "files" / "md5" / oid[:2] / oid[2:]
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
    out = {"path": "a.d", "hash": "md5", "md5": f"{digest}.dir", "size": 6, "nfiles": 2}
    project.dvc_lock.write_text(yaml.safe_dump({"schema": "2.0", "stages": {"a": {"cmd": "true", "outs": [out]}}}))
    before = {path for path in project.root.parent.rglob("*") if not path.is_relative_to(project.root / ".dvc")}
    with dvc_adapter.repository(project.root) as repo, pytest.raises(UserError, match="below the folder"):
        dvc_adapter.pull(repo)
    assert {path for path in project.root.parent.rglob("*") if not path.is_relative_to(project.root / ".dvc")} == before
    with pytest.raises(UserError, match="below the folder"):
        dvc_adapter.listed(listing)


@pytest.mark.parametrize("listing", [b"", b"1", b"[1]", b"[{}]", b'[{"relpath": "x", "md5": "../x"}]', b"[" * 100_000])
def test_what_is_no_list_of_a_folder_is_refused(listing):
    """Whatever is in a file of DVC's cache, it is a list of hashes by path, or a ValueError says that it is none."""
    with pytest.raises(ValueError, match=r"list|Expecting"):
        dvc_adapter.listed(listing)


class Bucket:
    """A remote whose objects may have any name, and that is its own file system."""

    protocol, path = "s3", "bucket/data"

    def __init__(self, objects):
        self.fs, self._objects = self, {f"{self.path}/{name}": data for name, data in objects.items()}

    def join(self, *parts):
        return "/".join(parts)

    def exists(self, path):
        return any(name.startswith(path) for name in self._objects)

    def find(self, path):
        return [name for name in self._objects if name.startswith(path)]

    def open(self, path, mode):
        return io.BytesIO(self._objects[path])


@pytest.fixture
def entry(ran):
    """Return the name and the content of an entry of the run-cache, which is no longer in the cache."""
    path = sorted((ran.cache / "runs").glob("*/*/*"))[0]
    found = str(path.relative_to(ran.cache)), path.read_bytes()
    shutil.rmtree(ran.cache / "runs")
    return found


def received(project, objects):
    """Return the files below the project's cache after a pull of the run-cache of a bucket, and all others."""
    before = {path for path in project.root.parent.rglob("*") if path.is_file()}
    with dvc_adapter.repository(project.root) as repo:
        dvc_adapter._receive(Bucket(objects), repo.cache.legacy)
    after = {path for path in project.root.parent.rglob("*") if path.is_file()} - before
    return sorted(str(path.relative_to(project.cache)) for path in after if ".dvc/tmp" not in str(path))


def test_an_entry_of_the_run_cache_is_fetched(ran, entry):
    """An entry that is what its name says arrives under that name."""
    name, data = entry
    assert received(ran, {name: data}) == [name]
    assert (ran.cache / name).read_bytes() == data


def test_an_entry_with_any_parameters_is_fetched(project, pipeline, reproduce):
    """Also with values that YAML 1.1 takes for something else than DVC does: its name is made of them."""
    project.params.write_text("all: {rate: 1e-5, mode: off, at: 12:30}\n")
    blocks = yaml.safe_load(pipeline(a="true").dvc_yaml.read_text())
    blocks["stages"]["a"]["params"] = ["all"]
    project.dvc_yaml.write_text(yaml.safe_dump(blocks))
    reproduce(project, "a")
    (path,) = (project.cache / "runs").glob("*/*/*")
    name, data = str(path.relative_to(project.cache)), path.read_bytes()
    path.unlink()
    assert received(project, {name: data}) == [name]


SHA = "0" * 64
BAD_NAMES = [
    "runs/../../../stages/base/x.py", "runs/../../x", "runs/00/../../../../x", f"runs/00/{SHA}/../../../../x",
    f"runs/01/{SHA}/{SHA}", f"runs/00/{SHA}/{SHA}/x", f"runs/00/{SHA}/x", f"runs/00/{SHA}", "runs/x",
    "runs//etc/passwd",
    f"runs/00/{SHA}/{SHA}\n", f"runs/00/{SHA.replace('0', 'Ａ')}/{SHA}", f"runs/00/{SHA}/{'A' * 64}", "runs/\x1b[2J",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_an_object_that_is_no_entry_stays_in_the_bucket(ran, entry, name, caplog):
    """A bucket's writer can name any file; none but the run-cache's own is written, and a line says so."""
    assert received(ran, {name: entry[1]}) == []
    assert "is no entry of the run-cache: it is left there" in caplog.text and "\x1b" not in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b"a.out", b"scripts/__main__.py"),
        lambda data: data.replace(b"a.out", b"../../.ssh/authorized_keys"),
        lambda data: data.replace(b"echo", b"curl"),
        lambda data: data.replace(b"md5: ", b"md5: 0"),
        lambda data: b"",
        lambda data: b"[" * 100_000,
        lambda data: b"cmd: &a [x]\nb: *a\n",
        lambda data: b"cmd: " + b"x" * 2_000_000,
        lambda data: b"\xff\x00",
        lambda data: b"- cmd",
        lambda data: b"cmd: x\nouts: 3\n",
        lambda data: b"outs:\n- [x]\n",
    ],
)
def test_an_entry_that_is_not_what_its_name_says_stays_there(ran, entry, change):
    """An entry says what is checked out where: one that was edited names no output, of no stage."""
    name, data = entry
    assert received(ran, {name: change(data)}) == []


def test_what_was_never_pushed_is_left_out_of_a_pull(ran):
    """A remote that lacks an output is no fault of a pull."""
    shutil.rmtree(ran.cache)
    with dvc_adapter.repository(ran.root) as repo:
        assert dvc_adapter.pull(repo) == 0


def test_an_output_is_found_by_its_hash_and_size(ran):
    """Cache and remote have an output in the same size once it is pushed, and before that the remote has none."""
    digest = dvc_adapter.md5(Path("b.out"))
    with dvc_adapter.repository(ran.root) as repo:
        here, there = dvc_adapter.cache_of(repo), dvc_adapter.remote_of(repo)
        assert digest in dvc_adapter.output_hashes(repo)
        assert (dvc_adapter.size_of(here, digest), dvc_adapter.size_of(there, digest)) == (2, None)
        dvc_adapter.push(repo)
        dvc_adapter.forget_listings(there)
        assert dvc_adapter.size_of(there, digest) == 2


def test_a_remote_says_where_it_is(ran):
    """A folder remote is told by its protocol and its address, without DVC's own folders in it."""
    with dvc_adapter.repository(ran.root) as repo:
        there = dvc_adapter.remote_of(repo)
        assert dvc_adapter.protocol(there) == "local"
        assert dvc_adapter.url_of(there) == str(ran.dvc_remote)


def test_the_config_is_what_dvc_reads(project):
    """Settings are found by section, as DVC itself finds them; a setting that DVC does not know is refused."""
    assert dvc_adapter.config(project.dvc_yaml.parent / ".dvc")["core"]["remote"] == "local"
    with (project.root / ".dvc" / "config").open("a") as file:
        file.write("[nonsense]\n    a = b\n")
    with pytest.raises(dvc_adapter.DvcException):
        dvc_adapter.config(project.root / ".dvc")


def test_only_what_stages_made_is_deleted(ran):
    """Outputs of stages go and are named; what was added by `dvc add` stays, and so does what is gone already."""
    Path("mine.csv").write_text("1")
    with dvc_adapter.repository(ran.root) as repo:
        repo.add("mine.csv")
    Path("a.out").unlink()
    with dvc_adapter.repository(ran.root) as repo:
        assert list(dvc_adapter.delete_outputs(repo)) == ["b.out"]
    assert Path("mine.csv").exists() and not Path("b.out").exists()


def test_a_failing_transfer_is_heard_of(ran, monkeypatch):
    """What DVC logs about its transfers reaches the handler that asks for it, and no other."""
    loggers = [logging.getLogger(name) for name in ("dvc", "dvc_data", "dvc_objects")]
    for logger in loggers:
        monkeypatch.setattr(logger, "handlers", logger.handlers)
        monkeypatch.setattr(logger, "propagate", logger.propagate)
    heard = []
    handler = logging.Handler()
    handler.emit = heard.append
    dvc_adapter.handle_logs(handler)
    for logger in loggers:
        logger.error("oh")
    assert [record.name for record in heard] == ["dvc", "dvc_data", "dvc_objects"]


# --- small things


def test_parameters_become_arguments_as_dvc_unpacks_them(pipeline):
    """Booleans are --name or --no-name, null is None, texts are quoted: as dvc.yaml's ${section} gives them."""
    section = {"n": 3, "yes": True, "no": False, "nothing": None, "word": "a b"}
    project = pipeline(a="true")
    project.params.write_text(yaml.safe_dump({"a": section}, sort_keys=False))
    project.dvc_yaml.write_text('stages: {a: {cmd: "prog ${a}", outs: [x]}}')
    with dvc_adapter.repository(project.root) as repo:
        (command,) = dvc_adapter.command_of(dvc_adapter.plan(repo, []).stages["a"])
    assert command == f"prog {dvc_adapter.arguments(section)}"
    assert dvc_adapter.arguments(section) == "--n 3 --yes --no-no --nothing None --word 'a b'"


def test_a_files_digest_is_that_of_dvc_lock(pipeline, reproduce):
    """The digest of a data set in a registry is the one by which dvc.lock names the file."""
    project = pipeline(a="true")
    reproduce(project, "a")
    (out,) = load_yaml(project.dvc_lock.read_text())["stages"]["a"]["outs"]
    assert dvc_adapter.md5(Path("a.out")) == out["md5"]


def test_a_section_is_what_dvc_reads(pipeline, monkeypatch):
    """What a stage is told of its parameters is what DVC itself finds: sections, values of them, nothing."""
    project = pipeline(a="true")
    project.params.write_text("a: {b: 1.0e-05, c: [1, {d: null}]}\n2: x\nyes: no\n")
    block = {"cmd": "true", "params": ["a", "a.c", "2", "yes", "missing"]}
    project.dvc_yaml.write_text(yaml.safe_dump({"stages": {"a": block}}))
    read = dvc_faster.parameters
    found_by = []
    for reader in (read.read, read._read):
        monkeypatch.setattr("dvc.dependency.param.read_param_file", reader)
        with dvc_adapter.repository(project.root) as repo:
            (params,) = dvc_adapter.plan(repo, []).stages["a"].params
            found_by.append((params.read_params(), [params.read_params()[name] for name in ("a", "yes")]))
    assert found_by[0] == found_by[1] and found_by[0][1] == [{"b": 1e-05, "c": [1, {"d": None}]}, "no"]


def test_what_is_taken_for_made_is_up_to_date(pipeline):
    """Outputs that lie there and are taken for made leave nothing to run, and are in the cache."""
    Path("x.out").touch()
    project = pipeline(a_x="false", b_a="false")
    for name in ("a", "b"):
        (project.root / f"{name}.out").write_text(name)
    with dvc_adapter.repository(project.root) as repo:
        dvc_adapter.take_for_made(repo)
    with dvc_adapter.repository(project.root) as repo:
        planned = dvc_adapter.plan(repo, [])
        assert not dvc_adapter.changed(repo, planned).stages
        assert not any(dvc_adapter.lacking(stage) for stage in planned.stages.values())


def test_a_lock_that_is_written_again_is_what_dvc_writes(pipeline, reproduce):
    """dvc.lock, read and written by the project, keeps DVC's own bytes."""
    project = pipeline(a="true", b_a="true")
    reproduce(project, "a")
    reproduce(project, "b")
    before = project.dvc_lock.read_text()
    dvc_adapter.write_lock(project.root / "again", load_yaml(before))
    assert (project.root / "again").read_text() == before


def test_an_entry_is_what_dvc_would_write(pipeline, reproduce):
    """A stage's new entry takes the place of its old one, or the end of dvc.lock, byte for byte as by DVC."""
    seen = set()
    for command in ("true", "true 'changed: yes # \\\n\n  $PATH " + "and so on " * 20 + "'", "true \u00e9 '#'"):
        project = pipeline(a="true", b_a=command, c_a="true")
        for name in "acb":
            reproduce(project, name)
            ours = project.dvc_lock.read_text()
            with dvc_adapter.repository(project.root) as repo:
                dvc_adapter.plan(repo, [name]).stages[name].dump(update_pipeline=False)
            assert project.dvc_lock.read_text() == ours
            seen.add(ours)
    assert len(seen) == 5


def test_what_else_is_in_the_lock_stays(pipeline, reproduce):
    """A dvc.lock that is not as DVC writes it is left to DVC, which knows what to do with it."""
    project = pipeline(a="true", b_a="true")
    reproduce(project, "a")
    project.dvc_lock.write_text("# a remark\n" + project.dvc_lock.read_text())
    reproduce(project, "b")
    assert project.dvc_lock.read_text().startswith("# a remark\n")
    assert list(load_yaml(project.dvc_lock.read_text())["stages"]) == ["a", "b"]


# --- results on the remote


@pytest.fixture
def elsewhere(project, reproduce):
    """Return a function that runs a pipeline, pushes it, and leaves what a new clone has: no cache and no lock."""

    def make(blocks):
        project.dvc_yaml.write_text(yaml.safe_dump({"stages": blocks}, sort_keys=False))
        Path("x.out").write_text("x")
        Path(".gitignore").write_text("/*.out\n/a\n/in\n")  # or DVC writes one beside an output, into an input
        for name in blocks:
            reproduce(project, name)
        with dvc_adapter.repository(project.root) as repo:
            dvc_adapter.push(repo)
        forget(project)
        return project

    return make


def forget(project):
    shutil.rmtree(project.cache)
    project.dvc_lock.unlink(missing_ok=True)
    for name in load_yaml(project.dvc_yaml.read_text())["stages"]:
        for path in (Path(f"{name}.out"), Path(name)):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def chain(*names):
    """Return blocks of which each reads what the one before it writes, and the first one x.out."""
    return {
        name: {"cmd": f"echo {name} > {name}.out", "deps": [f"{before}.out"], "outs": [f"{name}.out"]}
        for before, name in zip(("x", *names), names, strict=False)
    }


def given(project, name):
    """Find the results of what a stage needs and give it its inputs; return what was found, and what was lost."""
    with dvc_adapter.repository(project.root) as repo:
        planned = dvc_adapter.plan(repo, [name])
        results = dvc_adapter.Results(repo, planned)
        found = {each: results.find(each) for each in planned.stages}
        return found, results.give_inputs(name)


def cached(project):
    return [path.read_text() for path in project.cache.glob("files/md5/*/*")]


def test_a_stage_gets_what_it_reads_and_no_more(elsewhere):
    """Of all earlier results the remote's run-cache is asked; only the data that the stage itself reads is fetched."""
    project = elsewhere(chain("a", "b", "c"))
    assert given(project, "c") == ({"a": True, "b": True, "c": True}, [])
    assert Path("b.out").read_text() == "b\n"
    assert [Path(name).exists() for name in ("a.out", "c.out")] == [False, False]
    assert cached(project) == ["b\n"]


def test_one_file_of_a_result_is_given(elsewhere):
    """A file that a stage wrote elsewhere is put in its place, and nothing else is fetched; one that none wrote, or
    that the remote lost, is not."""
    project = elsewhere(chain("a", "b"))
    with dvc_adapter.repository(project.root) as repo:
        planned = dvc_adapter.plan(repo, ["b"])
        results = dvc_adapter.Results(repo, planned)
        assert all(map(results.find, planned.stages))
        assert [results.give(path) for path in ("b.out", "x.out", "c.out")] == [True, False, False]
        assert Path("b.out").read_text() == "b\n" and cached(project) == ["b\n"]
        shutil.rmtree(project.dvc_remote / "files")
        assert not results.give("a.out")


FOLDERS = {
    "a": {"cmd": "mkdir a && echo 1 > a/one && echo 2 > a/two", "deps": ["x.out"], "outs": ["a"]},
    "b": {"cmd": "cat a/one > b.out", "deps": ["a/one"], "outs": ["b.out"]},
    "c": {"cmd": "mkdir -p in/c && cp b.out in/c/c.out", "deps": ["b.out"], "outs": ["in/c/c.out"]},
    "d": {"cmd": "cat in/c/* > d.out", "deps": ["in/c"], "outs": ["d.out"]},
    "e": {"cmd": "cp d.out e.out", "deps": ["d.out"], "outs": ["e.out"]},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_stage_may_read_a_folder_or_a_part_of_one(elsewhere, name):
    """Results are found also where a stage reads a part of a folder that another one writes, or a folder around it."""
    project = elsewhere(FOLDERS)
    shutil.rmtree("in")
    found, lost = given(project, name)
    assert all(found.values()) and lost == []
    read = FOLDERS[name]["deps"][0]
    assert Path(read).exists()


def test_a_result_that_is_not_on_the_remote_is_missed(elsewhere):
    """A stage that was never pushed has no result; one whose data was lost has one, and the data is said to be lost."""
    project = elsewhere(chain("a", "b"))
    text = project.dvc_yaml.read_text()
    project.dvc_yaml.write_text(text.replace("echo a >", "echo a  >"))
    assert given(project, "a") == ({"a": False}, [])
    project.dvc_yaml.write_text(text)
    shutil.rmtree(project.dvc_remote / "files")
    assert given(project, "b") == ({"a": True, "b": True}, ["a"])


def test_the_lock_counts_if_the_remote_has_its_data(elsewhere, reproduce):
    """What dvc.lock names is a result, if its data was pushed; else the run-cache's is, which may be another one."""
    project = elsewhere(chain("a", "b"))
    given(project, "b")
    lock = {"schema": "2.0", "stages": {}}
    with dvc_adapter.repository(project.root) as repo:
        entries = [load_yaml(path.read_bytes()) for path in (project.cache / "runs").glob("*/*/*")]
        assert dvc_adapter.cached_commands(repo)
    lock["stages"] = {"a": next(entry for entry in entries if "echo a" in entry["cmd"])}
    lock["stages"]["a"]["outs"][0]["md5"] = "0" * 32
    forget(project)
    dvc_adapter.write_lock(project.dvc_lock, lock)
    assert given(project, "b") == ({"a": True, "b": True}, [])
    assert Path("a.out").read_text() == "a\n"
    Path("a.out").unlink()

    def fetch(stage):
        dvc_adapter.pull_outputs(stage)
        return not dvc_adapter.lacking(stage)

    assert reproduce(project, "a", fetch=fetch) == (True, ["kept"])  # so a run finds it, too


def test_an_input_that_nobody_has_is_named(elsewhere):
    """A file that neither a stage writes nor the clone has is named, with its stage."""
    project = elsewhere(chain("a"))
    Path("x.out").unlink()
    with pytest.raises(UserError, match=r"stage a reads x\.out, which neither git nor DVC's remote has"):
        given(project, "a")


def entries_of(project):
    return sorted((project.dvc_remote / "runs").glob("*/*/*"))


def push_result(project, name):
    with dvc_adapter.repository(project.root) as repo:
        return dvc_adapter.push_result(repo, name)


def test_a_result_is_pushed_by_itself(elsewhere, reproduce):
    """One stage's data and entry go to the remote, and another clone finds them; the same again changes nothing."""
    project = elsewhere(chain("a", "b"))
    shutil.rmtree(project.dvc_remote)
    reproduce(project, "a")
    assert push_result(project, "a") is True
    assert len(entries_of(project)) == 1
    before = {path: path.stat().st_mtime_ns for path in project.dvc_remote.rglob("*") if path.is_file()}
    assert push_result(project, "a") is True
    assert before == {path: path.stat().st_mtime_ns for path in project.dvc_remote.rglob("*") if path.is_file()}
    forget(project)
    assert given(project, "b") == ({"a": True, "b": False}, [])


def test_the_entry_is_sent_after_the_data(elsewhere, reproduce, monkeypatch):
    """If the data does not arrive, there is no entry that promises it."""
    project = elsewhere(chain("a"))
    shutil.rmtree(project.dvc_remote)
    reproduce(project, "a")
    monkeypatch.setattr("dvc.data_cloud.DataCloud.push", lambda self, objs: None)
    with pytest.raises(OSError, match="it took the data and does not have it"):
        push_result(project, "a")
    assert entries_of(project) == []


def test_two_results_of_one_stage_are_told_apart(elsewhere, reproduce, tmp_path):
    """A second result of the same command and inputs is not sent, nor is its entry: path and both hashes are told. If
    the remote has two all the same, whoever asks is told."""
    dice = tmp_path / "dice"
    dice.write_text("1")
    project = elsewhere({"a": {"cmd": f"cat {dice} > a.out", "deps": ["x.out"], "outs": ["a.out"]}})
    sent = set(project.dvc_remote.rglob("*"))
    dice.write_text("2")
    reproduce(project, "a")
    with pytest.raises(dvc_adapter.Ambiguous) as told:
        push_result(project, "a")
    digests = [hashlib.md5(number, usedforsecurity=False).hexdigest() for number in (b"2", b"1")]
    assert (told.value.stage, told.value.outputs) == ("a", [("a.out", *digests)])
    assert set(project.dvc_remote.rglob("*")) == sent
    shutil.copytree(project.cache / "runs", project.dvc_remote / "runs", dirs_exist_ok=True)
    forget(project)
    with pytest.raises(dvc_adapter.Ambiguous):
        given(project, "a")


def test_a_stage_that_dvc_always_runs_has_no_result(pipeline, reproduce):
    """Without inputs and parameters there is nothing by which a result could be found again."""
    project = pipeline(a="true")
    reproduce(project, "a")
    assert push_result(project, "a") is False
    assert given(project, "a") == ({"a": False}, [])


def test_a_working_copy_shares_the_cache_and_copies_nothing(ran, reproduce, project, tmp_path, monkeypatch):
    """In a working copy the run-cache of the clone has what a stage would make, and puts it there as a link."""
    copy = tmp_path / "copy"
    copy.mkdir()
    with dvc_adapter.repository(project.root) as repo:
        dvc_adapter.make_working_copy(repo, copy)
        assert dvc_adapter.remote_of(repo).path == dvc_adapter.remote_of(dvc_adapter.repository(copy)).path
    for name in ("dvc.yaml", "x.out"):
        shutil.copy(project.root / name, copy / name)
    monkeypatch.chdir(copy)
    assert reproduce(Project(copy), "a") == (True, ["kept"])
    assert (copy / "a.out").stat().st_nlink == 2 and (copy / "a.out").stat().st_mode & 0o222 == 0
    assert not (copy / ".git").exists()


def test_what_no_stage_makes_is_given(project, pipeline):
    """Files that stages read and none makes are known with their hash; one that is missing is a sentence."""
    (project.root / "given.csv").write_text("1")
    blocks = {"a": {"cmd": "cp given.csv a", "deps": ["given.csv"], "outs": ["a"]}}
    blocks |= {"b": {"cmd": "cp a b", "deps": ["a"], "outs": ["b"]}}
    project.dvc_yaml.write_text(yaml.safe_dump({"stages": blocks}))
    with dvc_adapter.repository(project.root) as repo, repo.lock:
        planned = dvc_adapter.plan(repo, [])
        assert dvc_adapter.given(repo, planned) == {"given.csv": "c4ca4238a0b923820dcc509a6f75849b"}
        (project.root / "given.csv").unlink()
        with pytest.raises(UserError, match=r"given.csv is missing, which stages read; expected it there"):
            dvc_adapter.given(repo, planned)
