"""All that the project uses of DVC's Python API, public or not; only this and dvc_faster.py import it.

tests/unit/pipeline/test_dvc_adapter.py names each thing that is used, so that a DVC that lacks one fails there.
"""

import fcntl
import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, NamedTuple

import colorama
import dvc.rwlock
import dvc.stage.cache
import dvc.stage.run
import tqdm
import yaml
from dvc.dependency import ParamsDependency
from dvc.dvcfile import FileMixin
from dvc.exceptions import DvcException
from dvc.lock import LockBase
from dvc.output import Output as DvcOutput
from dvc.repo import Repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.stage import PipelineStage, Stage
from dvc.stage.cache import RunCacheNotFoundError
from dvc.stage.decorators import unlocked_repo
from dvc.stage.exceptions import StageCmdFailedError
from dvc.stage.serialize import to_single_stage_lockfile
from dvc.utils.serialize import dump_yaml, dumps_yaml
from dvc_data.hashfile.db import HashFileDB
from dvc_data.hashfile.tree import Tree
from dvc_objects.errors import ObjectDBError
from dvc_objects.executors import batch_coros
from dvc_objects.fs.errors import AuthError, ConfigError
from dvc_objects.fs.generic import copy, log_exceptions

from scripts.pipeline import dvc_faster, lock_text
from scripts.pipeline.console import printable
from scripts.pipeline.stage import block
from scripts.project import UserError, atomic_write
from scripts.recovery.dvc_files import is_idle
from scripts.yaml12 import load_strangers_yaml, load_yaml

colorama.deinit()  # DVC starts it, for Windows: it reads escape sequences in all that is printed, and fails at some
tqdm.tqdm.monitor_interval = 0  # DVC's bars would start a thread, and a process that forks must have none
dvc_faster.install()
_tree_of = Tree.from_list
Tree.from_list = staticmethod(lambda lst, hash_name=None: _tree_of(check_listing(lst), hash_name=hash_name))


RUN_CACHE = "runs"
"""The folder of DVC's cache that holds the run-cache: runs/<key's first two>/<key>/<value>, a YAML file each."""
ENTRY = re.compile(rf"{RUN_CACHE}/([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})/([0-9a-f]{{64}})")
ENTRY_BYTES = 1_000_000
LEGACY = "md5-dos2unix"
"""What DVC calls the part of a remote that holds the run-cache."""
PARSING = {"bool": "boolean_optional"}
"""How a command is filled in, as .dvc/config has it."""

Fetch = Callable[[Stage], bool]
"""Fetches the outputs of a stage that are not here; returns whether they are now."""

FAULTS = (DvcException, OSError, ObjectDBError, AuthError, ConfigError)
"""What DVC raises if a remote or the repository fails, beside what the remote's own client raises."""

__all__ = ["DvcException", "HashFileDB", "Repo", "Stage", "batch_coros"]


def check_listing(listing: Any) -> Any:
    """Return the list of a folder's files, as DVC's cache has it. Raise UserError if it names what is not below it.

    DVC would write there. A list comes from the remote, and of what is in it dvc.lock shows but a hash.
    """
    for file in listing:
        if not is_below(name := file["relpath"]):
            raise UserError(
                f"the list of a folder in DVC's cache names {printable(str(name))[:100]!r}; expected the path of a "
                "file below the folder: DVC writes no such list; take dvc.lock from a commit you trust"
            )
    return listing


def is_below(name: object) -> bool:
    """Return whether a path, as a list of files has it, can lead to nothing but a file below the folder."""
    return isinstance(name, str) and not {"", ".", ".."} & set(name.split("/")) and "\0" not in name


@contextmanager
def errors() -> Iterator[None]:
    """Turn what DVC raises for a pipeline that it cannot use into UserError."""
    try:
        yield
    except DvcException as error:
        if "dvc.lock" in str(error):
            raise UserError(
                "dvc.lock is damaged, or a merge left it with conflicts; expected what a run wrote: take one side, or "
                "delete it, and run again"
            ) from None
        raise UserError(f"DVC cannot use this pipeline: {' '.join(str(error).split()).rstrip('.')}") from None


def repository(root: Path) -> Repo:
    """Open the DVC repository at `root`, which waits for DVC's lock rather than giving up; to be used with `with`."""
    return Repo(str(root), _wait_for_lock=True)


@contextmanager
def only_looking(root: Path, texts: Mapping[Path, str]) -> Iterator[Repo]:
    """Open the DVC repository at `root` as it would be if dvc.yaml and dvc.lock held `texts`.

    Nothing in the clone is written, but the list of a folder's files that any question for its status leaves in DVC's
    cache: who reads and writes what is noted elsewhere. To be used while no stage runs.
    """
    by_dvc = FileMixin._load_yaml
    instead = {os.path.realpath(path): text for path, text in texts.items()}

    def load(self: FileMixin, **options: Any) -> tuple[Any, str]:
        text = instead.get(os.path.realpath(self.path))
        return by_dvc(self, **options) if text is None else (self.validate(load_yaml(text), str(self.path)), text)

    FileMixin._load_yaml = load
    try:
        with TemporaryDirectory() as folder, repository(root) as repo:
            repo.tmp_dir = folder
            yield repo
    finally:
        FileMixin._load_yaml = by_dvc


def make_working_copy(repo: Repo, folder: Path) -> None:
    """Make a folder a DVC repository that shares the cache and the remote of `repo`; it is none of git's.

    What is taken from the cache there is a link to it, without the right to write, where the file system has links: to
    be used where nothing but stages' containers, which get their inputs read-only, reads it.
    """
    from dvc.config import Config

    (folder / ".dvc" / "tmp").mkdir(parents=True)
    here = Config(dvc_dir=repo.dvc_dir, validate=False)
    with Config(dvc_dir=str(folder / ".dvc"), validate=False).edit("local", validate=False) as config:
        config.update({name: dict(section) for name, section in here.items()})
        config["core"]["no_scm"] = True
        config["cache"] |= {"dir": repo.cache.local_cache_dir, "type": ["hardlink", "copy"]}


# --- what is to be run


class Plan(NamedTuple):
    """Stages by name, each after all that it needs; `needs` are the names of the stages that one waits for."""

    stages: Mapping[str, Stage]
    needs: Mapping[str, Sequence[str]]

    def named(self, targets: Sequence[str]) -> list[str]:
        """Return the stages that `targets` name, each a stage or a block."""
        return [name for name in self.stages if {name, block(name)} & set(targets)]

    def only(self, targets: Sequence[str]) -> "Plan":
        """Return the part that `targets` name, which waits for nothing else."""
        names = self.named(targets)
        needs = {name: [need for need in self.needs[name] if need in names] for name in names}
        return Plan({name: self.stages[name] for name in names}, needs)


def plan(repo: Repo, targets: Sequence[str]) -> Plan:
    """Return the stages that `targets` (none: all) consist of. Raise UserError for an unknown one."""
    graph = get_active_graph(repo.index.graph)
    by_name = {stage.addressing: stage for stage in graph}
    asked_for = []
    for target in targets:
        of_block = [name for name in by_name if target in (name, block(name))]
        if not of_block:
            raise UserError(f"there is no stage {target}; expected one of {', '.join(by_name)}: correct the name")
        asked_for += of_block
    stages = plan_repro(graph, [by_name[name] for name in asked_for] or list(graph))
    return Plan(
        {stage.addressing: stage for stage in stages},
        {stage.addressing: [need.addressing for need in graph.successors(stage)] for stage in stages},
    )


def changed(repo: Repo, planned: Plan) -> Plan:
    """Return the part of `planned` that has changed, or that waits for something that has."""
    found: dict[str, Stage] = {}
    with repo.lock, _unlisted(repo):
        for name, stage in planned.stages.items():
            if any(need in found for need in planned.needs[name]) or stage.changed():
                found[name] = stage
    return Plan(found, {name: [need for need in planned.needs[name] if need in found] for name in found})


@contextmanager
def _unlisted(repo: Repo) -> Iterator[None]:
    """Look at stages without noting in DVC's list who reads them; to be used under DVC's lock of the repository.

    DVC writes that list six times a stage. It is written under that lock alone, so as long as it is empty nobody is to
    be waited for, and nobody reads it.
    """
    path, by_dvc = Path(repo.tmp_dir, dvc.rwlock.RWLOCK_FILE), dvc.rwlock.rwlock
    if not path.exists() or is_idle(path.read_text(errors="replace")):
        dvc.rwlock.rwlock = lambda *which: nullcontext()
    try:
        yield
    finally:
        dvc.rwlock.rwlock = by_dvc


def files_of(planned: Plan) -> list[str] | None:
    """Return the path of each file and folder by which `changed` decides, those in the cache among them; None if one is
    not on this machine, or if a stage counts as changed whatever there is."""
    found = []
    for stage in planned.stages.values():
        files = [*stage.deps, *stage.outs]
        if stage.always_changed or any(each.protocol != "local" for each in files):
            return None
        found += [each.fs_path for each in files]
        for out in stage.outs:
            if out.use_cache and out.hash_info:
                found += [out.cache.oid_to_path(oid) for oid in _objects(out)]
    return found


def _objects(out: DvcOutput) -> Iterator[str]:
    """Yield the hashes of what DVC's cache has of an output: of a folder its listing's, and each file's."""
    yield out.hash_info.value
    if out.hash_info.isdir and (tree := out.get_obj()):
        for _, _, hash_info in tree:
            yield hash_info.value


def given(repo: Repo, planned: Plan) -> dict[str, str]:
    """Return the hash of each file or folder that stages of `planned` read and no stage makes.

    Raise UserError if one is not there.
    """
    made = [out.fs_path for stage in planned.stages.values() if stage.cmd for out in stage.outs]
    read = {str(dep): dep for stage in planned.stages.values() for dep in stage.deps}
    found = {}
    for path, dep in read.items():
        if isinstance(dep, ParamsDependency) or any(_overlap(dep.fs_path, out) for out in made):
            continue
        if not dep.exists:
            raise UserError(f"{path} is missing, which stages read; expected it there: add it, or 'dvc checkout' it")
        found[path] = dep.get_hash().value
    return found


def must_run(repo: Repo, stage: Stage, cached: set[tuple[str, ...]]) -> bool:
    """Return whether DVC has no outputs of the stage's command: neither by dvc.lock nor in the run-cache.

    `cached` is what `cached_commands` returned.
    """
    if not stage.cmd_changed and stage.outs_cached():
        return False
    return command_of(stage) not in cached


def command_of(stage: Stage) -> tuple[str, ...]:
    """Return the commands of a stage, with its parameters filled in."""
    return (stage.cmd,) if isinstance(stage.cmd, str) else tuple(stage.cmd or ())


def cached_commands(repo: Repo) -> set[tuple[str, ...]]:
    """Return the commands whose outputs are in the run-cache."""
    entries = Path(repo.cache.legacy.path, RUN_CACHE).glob("*/*/*")
    return {command for entry in entries if (command := _command_in(entry))}


def _command_in(entry: Path) -> tuple[str, ...]:
    """Return the commands of an entry of the run-cache; none if it is damaged, which DVC then deletes."""
    try:
        command = load_yaml(entry.read_bytes())["cmd"]
    except (yaml.YAMLError, ValueError, KeyError, TypeError):
        return ()
    commands = [command] if isinstance(command, str) else command
    is_whole = isinstance(commands, list) and all(isinstance(each, str) for each in commands)
    return tuple(commands) if is_whole else ()


# --- what a run will find


class Will(StrEnum):
    """What a run will do with a stage."""

    NOTHING = "up to date"
    RESTORE = "will be restored"
    RUN = "will run"
    WAIT = "waits"
    NOTE = "will be noted"  # of data that `dvc add` added, its hash
    FAIL = "will fail"


class Version(NamedTuple):
    """The hash and the size in bytes of a file or, ending in `.dir`, a folder."""

    digest: str
    size: int | None


class Difference(NamedTuple):
    """A file that is not as dvc.lock has it. `was` is None if it has none, `now` if there is no such file."""

    path: str
    was: Version | None
    now: Version | None


class Forecast(NamedTuple):
    """What a run will do with a stage, and all that differs from dvc.lock, as far as it is known before.

    `source` is where a result comes from; `waits_for` are stages that will run, or wait themselves, before it.
    `params` are the sections of parameters, by name, as they were recorded and as they are.
    """

    name: str
    will: Will
    source: str = ""
    is_new: bool = False
    is_called_otherwise: bool = False
    waits_for: Sequence[str] = ()
    inputs: Sequence[Difference] = ()
    outputs: Sequence[Difference] = ()
    params: Mapping[str, tuple[Any, Any]] = MappingProxyType({})
    lost: Sequence[str] = ()  # outputs of its result that are neither in the cache nor on the remote


IN_LOCK, IN_RUN_CACHE, ON_REMOTE = "dvc.lock", "the run-cache", "the remote"


def forecast(repo: Repo, planned: Plan, on_remote: Fetch) -> Iterator[Forecast]:
    """Say of each stage of `planned` what a run would do, in the order of a run; to be called in `only_looking`.

    `on_remote` returns whether the outputs of a stage that are not here could be fetched. What a stage that is restored
    will have written counts as written.
    """
    forecaster = _Forecaster(repo, planned, on_remote)
    with repo.lock:
        for name in planned.stages:
            yield forecaster.of(name)


class _Forecaster:
    """What is known so far: what stages will have restored, and which ones cannot be told before they have run."""

    def __init__(self, repo: Repo, planned: Plan, on_remote: Fetch) -> None:
        self._planned, self._on_remote = planned, on_remote
        self._repo = repo
        self._made: dict[str, DvcOutput] = {}
        self._will: dict[str, Will] = {}

    @cached_property
    def _cached(self) -> set[tuple[str, ...]]:
        """The commands of the run-cache: to read them takes the longer, the more results there are."""
        return cached_commands(self._repo)

    def of(self, name: str) -> Forecast:
        stage = self._planned.stages[name]
        known = [dep.fs_path for dep in stage.deps if self._foresee(dep)]
        unknown = {need: self._unknown_of(need, stage, known) for need in self._planned.needs[name]}
        found = self._forecast(stage, {need: files for need, files in unknown.items() if files})
        self._will[name] = found.will
        return found

    def _foresee(self, dep: DvcOutput) -> bool:
        """Let a dependency be what will have been restored in its place; return whether that is known."""
        for path, out in self._made.items():
            if Path(dep.fs_path).is_relative_to(path):
                part = out if dep.fs_path == path else out.get_obj(filter_info=dep.fs_path)
                if part and part.hash_info:
                    _will_be(dep, part.hash_info, out.meta if part is out else dep.meta, out.hash_name)
                    return True
        return False

    def _unknown_of(self, need: str, stage: Stage, known: Sequence[str]) -> set[str]:
        """Return the outputs of a stage that `stage` waits for of which nothing is known before it has run."""
        files = {out.fs_path for out in self._planned.stages[need].outs}
        if self._will[need] in (Will.RUN, Will.WAIT, Will.FAIL):
            return files
        # A folder around what is restored, or a part of a folder that only the remote lists, has an unknown hash.
        paths = {dep.fs_path for dep in stage.deps}.difference(known)
        return {file for file in files & set(self._made) if any(_overlap(file, path) for path in paths)}

    def _forecast(self, stage: Stage, unknown: Mapping[str, set[str]]) -> Forecast:
        if not unknown and not stage.changed():
            return Forecast(stage.addressing, Will.NOTHING)
        about = self._differences(stage, unknown)
        if not stage.cmd:
            return about._replace(will=Will.NOTE if all(each.now for each in about.outputs) else Will.FAIL)
        if any(not each.now for each in about.inputs):
            return about._replace(will=Will.FAIL)
        if unknown:
            blocked = any(self._will[need] is Will.FAIL for need in unknown)
            is_certain = must_run(self._repo, stage, self._cached) and (
                stage.cmd_changed or about.is_new or not self._on_remote(stage)
            )
            return about._replace(will=Will.RUN if is_certain and not blocked else Will.WAIT)
        return self._restored(stage, about)

    def _restored(self, stage: Stage, about: Forecast) -> Forecast:
        """Return the forecast of a stage that has changed and whose inputs are known: it is restored, or it runs."""
        for out in stage.outs:
            out.persist = False  # as in `reproduce`
        in_lock = _result_in_lock(stage)
        if not in_lock:
            stage.save_deps()
        result = _recorded(stage, in_lock)
        if result is None:
            return about._replace(will=Will.RUN)
        if result.outs_cached():
            source = IN_LOCK if in_lock else IN_RUN_CACHE
        elif self._on_remote(result):
            source = ON_REMOTE
        else:
            lost = [str(out) for out in result.outs if out.changed_cache()]
            return about._replace(will=Will.RUN, lost=lost)
        self._made |= {out.fs_path: out for out in result.outs}
        return about._replace(will=Will.RESTORE, source=source)

    def _differences(self, stage: Stage, unknown: Mapping[str, set[str]]) -> Forecast:
        """Return what differs of a stage, but for the inputs that are not known yet."""
        paths = {path for files in unknown.values() for path in files}
        known = [dep for dep in stage.deps if not any(_overlap(dep.fs_path, path) for path in paths)]
        return Forecast(
            stage.addressing,
            Will.NOTHING,
            is_new=bool(stage.cmd) and not stage.cmd_changed and not any(out.hash_info for out in stage.outs),
            is_called_otherwise=bool(stage.cmd and stage.cmd_changed),
            waits_for=[*unknown],
            inputs=list(_different(dep for dep in known if not isinstance(dep, ParamsDependency))),
            outputs=list(_different(stage.outs)),
            params=_params(stage),
        )


def _overlap(one: str, other: str) -> bool:
    return Path(one).is_relative_to(other) or Path(other).is_relative_to(one)


def _will_be(dep: DvcOutput, hash_info: Any, meta: Any, hash_name: str) -> None:
    """Let DVC take a dependency for a file of this hash, whatever is there now."""

    def status() -> dict[str, str]:
        same = dep.hash_info == hash_info
        return {} if same else {str(dep): "modified" if dep.hash_info else "new"}

    def save() -> None:
        dep.hash_info, dep.meta, dep.hash_name = hash_info, meta, hash_name

    dep.workspace_status, dep.save = status, save
    dep.get_hash, dep.get_meta = lambda: hash_info, lambda: meta


def _different(files: Iterable[DvcOutput]) -> Iterator[Difference]:
    """Yield those of `files` that are not as dvc.lock has them, or that DVC's cache lacks."""
    for file in files:
        state = file.workspace_status()
        if state or file.status():  # DVC's cache may lack what is there
            was = Version(file.hash_info.value, file.meta.size) if file.hash_info else None
            gone = state.get(str(file)) == "deleted"
            yield Difference(str(file), was, None if gone else Version(file.get_hash().value, file.get_meta().size))


def _params(stage: Stage) -> dict[str, tuple[Any, Any]]:
    found = {}
    for dep in stage.params:
        was, now = dep.hash_info.value or {}, dep.read_params()
        found |= {name: (was.get(name), now.get(name)) for name in dict.fromkeys([*was, *now])}
    return found


def arguments(section: Mapping[str, Any]) -> str:
    """Return a section of params.yaml as DVC unpacks it in a command: `${train}` -> `--seed 1 ...`."""
    from dvc.parsing.interpolate import to_str

    return to_str(dict(section), PARSING)


def filled_in(command: str, params: Mapping[str, Any]) -> str:
    """Return a command of dvc.yaml as dvc.lock has it. Raise DvcException for a parameter that is not there."""
    from dvc.parsing.context import Context

    return Context(dict(params)).resolve_str(command, config=PARSING)


# --- one stage, reproduced


class _Queue(LockBase):
    """DVC's lock of the repository, for which the processes of a run queue up.

    DVC looks again after half a second if the lock is taken, so of eight stages the last one would begin 4 s late.
    """

    def __init__(self, lock: LockBase) -> None:
        super().__init__(lock.lockfile)
        self._lock = lock
        self._queue = os.open(f"{lock.lockfile}.queue", os.O_RDWR | os.O_CREAT, 0o644)

    def lock(self) -> None:
        fcntl.flock(self._queue, fcntl.LOCK_EX)  # the kernel drops it with its holder, however that ends
        self._lock.lock()

    def unlock(self) -> None:
        if self.is_locked:  # not if an interrupt ended the wait for it
            self._lock.unlock()
        fcntl.flock(self._queue, fcntl.LOCK_UN)

    @property
    def is_locked(self) -> bool:
        return self._lock.is_locked

    def __enter__(self) -> None:
        self.lock()

    def __exit__(self, *error: object) -> None:
        self.unlock()


RunCommands = Callable[[Callable[[Sequence[str]], None]], None]
"""Runs a stage's commands; is given DVC's own way to do so."""


def reproduce(
    stage: Stage,
    run_commands: RunCommands,
    *,
    fetch: Fetch,
    mend: Callable[[str], object],
    kept: Callable[[], object],
) -> bool:
    """Do what `dvc repro --single-item` does, without reading all of dvc.yaml again; return whether anything changed.

    To be called once, in a process that does nothing else. `run_commands` is called if, and only if, DVC is about to
    run the stage's commands. `fetch` is called before that, if dvc.lock or the run-cache names a result that is not
    here; `mend`, before DVC reads what the run-cache has under a key. `kept` is called when dvc.lock has been written,
    while no other process of the run writes it.
    """
    by_dvc = dvc.stage.run.cmd_run

    def hook(stage: Stage, **options: Any) -> None:
        def run(commands: Sequence[str]) -> None:
            stage.cmd, recorded = list(commands), stage.cmd
            try:
                by_dvc(stage, **options)
            finally:
                stage.cmd = recorded

        run_commands(run)

    dvc.stage.run.cmd_run = hook
    for out in stage.outs:
        out.persist = False  # in dvc.yaml it is for those who call DVC itself; DVC keeps no run-cache of such outputs
    stage.repo.stage_cache.restore = partial(_restore, stage.repo.stage_cache.restore, unlocked_repo(fetch))
    stage.repo.stage_cache._load = partial(_load, stage.repo.stage_cache._load, mend)
    stage.repo.lock = _Queue(stage.repo.lock)
    with stage.repo.lock, stage.repo.scm_context(quiet=True):
        if not stage.reproduce():
            return False
        _dump(stage)
        kept()
    return True


def _dump(stage: Stage) -> None:
    """Write the stage's entry of dvc.lock: in one step, and at once, unless the file is not as DVC writes it."""
    lock = Path(stage.repo.root_dir, "dvc.lock")
    if isinstance(stage, PipelineStage) and Path(stage.path).with_suffix(".lock") == lock:
        entry = dumps_yaml({"schema": "2.0", "stages": {stage.name: to_single_stage_lockfile(stage)}})
        if text := lock_text.with_entry(lock.read_text() if lock.exists() else lock_text.HEAD, entry):
            atomic_write(lock, text)
            stage.repo.scm_context.track_file(str(lock))
            return
    stage.dump(update_pipeline=False)


def _load(by_dvc: Callable[[Stage], Any], mend: Callable[[str], object], stage: Stage) -> Any:
    """Find the run-cache's entry of a stage as DVC does, once what is there is mended."""
    mend(dvc.stage.cache._get_stage_hash(stage))
    return by_dvc(stage)


def _restore(by_dvc: Callable[..., None], fetch: Fetch, stage: Stage, **options: Any) -> None:
    """Restore a stage's outputs as DVC does and, if what it would restore is not in the cache, fetch that first.

    `dvc pull --run-cache` fetches what dvc.lock names and the run-cache's entries, but not what these name; and
    `dvc repro --pull` fetches, stage by stage, also what no stage needs.
    """
    result = _result_in_lock(stage)  # asked before DVC notes the inputs as they are
    try:
        by_dvc(stage, **options)
    except RunCacheNotFoundError:
        # What dvc.lock names may never have been pushed, and the run-cache may know a later run.
        for known in [result, None] if result else [None]:
            recorded = _recorded(stage, known)
            if recorded and fetch(recorded) and recorded.outs_cached():
                return recorded.checkout()
        raise


def _result_in_lock(stage: Stage) -> Mapping[str, Any] | None:
    """Return the stage's entry of dvc.lock, if it is one of the commands and inputs of now."""
    if not stage.changed_stage() and not stage.changed_deps() and all(out.hash_info for out in stage.outs):
        return to_single_stage_lockfile(stage)
    return None


def _recorded(stage: Stage, in_lock: Mapping[str, Any] | None) -> Stage | None:
    """Return a stage whose outputs are those of `in_lock` or, without it, of the run-cache's entry for the inputs that
    DVC has noted; None if there is no result of them."""
    if not dvc.stage.cache._can_hash(stage):  # it has no inputs, or an output that is not DVC's
        return None
    result = in_lock or stage.repo.stage_cache._load(stage)
    return stage.repo.stage_cache._create_stage(result, wdir=stage.wdir) if result else None


class Ambiguous(Exception):
    """The run-cache has several results of the same command and inputs; `outputs` are the paths and hashes of two."""

    def __init__(self, stage: str, outputs: Sequence[tuple[str, str, str]]) -> None:
        super().__init__(stage)
        self.stage, self.outputs = stage, outputs


class Results:
    """The results of stages as the default remote has them, found one after the other, without their data.

    A result is that of dvc.lock, if the remote has its data, or of the remote's run-cache. What a stage whose result is
    known has written counts as written; only what cannot be hashed otherwise, as a folder that several stages write
    to, is fetched. Raise what the remote raises, one of FAULTS among it.
    """

    def __init__(self, repo: Repo, planned: Plan) -> None:
        self._repo, self._planned = repo, planned
        self._made: dict[str, tuple[str, DvcOutput]] = {}  # the stage and its output, by path

    def find(self, name: str) -> bool:
        """Look for the result of a stage, after those of all that it needs; return whether there is one.

        Raise Ambiguous if there are several, UserError if an input is missing that no stage writes.
        """
        stage = self._planned.stages[name]
        with self._repo.lock:
            for dep in stage.deps:
                self._foresee(name, dep)
            result = self._result(stage)
        if result:
            self._made |= {out.fs_path: (name, out) for out in result.outs}
        return bool(result)

    def fetch(self, name: str) -> bool:
        """Fetch what a stage has written into the cache; return whether the remote has it."""
        return all(self._fetch(out) for maker, out in self._made.values() if maker == name)

    def give(self, path: str) -> bool:
        """Put a file that a stage has written into its place; return whether the remote has it."""
        found = [out for _, out in self._made.values() if str(out) == path]
        return bool(found) and self._check_out(found[0])

    def give_inputs(self, name: str) -> list[str]:
        """Put into place what earlier stages wrote and this one reads; return those whose data the remote lacks."""
        stage = self._planned.stages[name]
        read = [
            (maker, out)
            for path, (maker, out) in self._made.items()
            if maker != name and any(_overlap(dep.fs_path, path) for dep in stage.deps)
        ]
        return [maker for maker, out in read if not self._check_out(out)]

    def _foresee(self, name: str, dep: DvcOutput) -> None:
        """Let an input be what will have been written in its place."""
        for path, (_, out) in self._made.items():
            if dep.fs_path == path and out.hash_info:
                return _will_be(dep, out.hash_info, out.meta, out.hash_name)
        for path, (_, out) in self._made.items():
            if _overlap(dep.fs_path, path):
                self._check_out(out)
        if not dep.exists:
            raise UserError(
                f"stage {name} reads {dep}, which neither git nor DVC's remote has; expected it in one of them: commit "
                "it, or 'dvc add' and 'make push'"
            )
        return None

    def _result(self, stage: Stage) -> Stage | None:
        if not stage.cmd:  # the user's own data, which `dvc add` made one
            return stage
        for out in stage.outs:
            out.persist = False  # as in `reproduce`
        recorded = _recorded(stage, in_lock) if (in_lock := _result_in_lock(stage)) else None
        if recorded and all(map(self._has, recorded.outs)):
            return recorded
        if not dvc.stage.cache._can_hash(stage):
            return None
        stage.save_deps()
        key = dvc.stage.cache._get_stage_hash(stage)
        entries = receive_entries(self._repo, key)
        _check_single(stage.addressing, entries)
        return _recorded(stage, entries[0].data) if entries else None

    def _has(self, out: DvcOutput) -> bool:
        return not out.changed_cache() or remote_of(self._repo).exists(out.hash_info.value)

    def _fetch(self, out: DvcOutput) -> bool:
        if not self._has(out):
            return False
        if out.changed_cache():
            for hashes in out.get_used_objs().values():
                self._repo.cloud.pull(hashes)
        return not out.changed_cache()

    def _check_out(self, out: DvcOutput) -> bool:
        if not self._fetch(out):
            return False
        out.checkout(force=True)
        return True


class Entry(NamedTuple):
    """An entry of the run-cache: its name, a digest, and what it says."""

    value: str
    data: Mapping[str, Any]


def receive_entries(repo: Repo, key: str) -> list[Entry]:
    """Fetch what the remote's run-cache has under `key`, and nothing else of it; return all that is valid of it."""
    remote = repo.cloud.get_remote_odb(hash_name=LEGACY)
    forget_listings(remote)
    folder = _folder_of_runs(remote, key)
    sources = sorted(remote.fs.find(folder)) if remote.fs.exists(folder) else []
    values = [entry[1] for source in sources if (entry := _received(remote, repo.cache.legacy, source))]
    return [Entry(value, data) for value in values if (data := repo.stage_cache._load_cache(key, value))]


def push_result(repo: Repo, name: str) -> bool:
    """Send what a stage has written and then, if all of it has arrived, its entry of the run-cache; return False if
    there is no entry: DVC keeps none of a stage without inputs and parameters.

    Raise Ambiguous if the remote has another result of the same command and inputs, OSError if something is not there
    after it was sent.
    """
    stage = plan(repo, [name]).stages[name]
    for out in stage.outs:
        out.persist = False
    if not dvc.stage.cache._can_hash(stage):
        return False
    result = to_single_stage_lockfile(stage)
    key, value = dvc.stage.cache._get_stage_hash(stage), dvc.stage.cache._get_cache_hash(dict(result))
    mine = Entry(value, result)
    _check_single(name, [mine, *receive_entries(repo, key)])
    for hashes in stage.get_used_objs().values():
        repo.cloud.push(hashes)
    cache, remote = cache_of(repo), remote_of(repo)
    forget_listings(remote)
    for out in stage.outs:
        oid = out.hash_info.value
        if size_of(cache, oid) != size_of(remote, oid):
            raise OSError("it took the data and does not have it: is its address that of an S3 server?")
    there = repo.cloud.get_remote_odb(hash_name=LEGACY)
    if value not in [entry.value for entry in receive_entries(repo, key)]:
        target = there.fs.join(_folder_of_runs(there, key), value)
        copy(repo.cache.legacy.fs, str(_entry(repo, key, value)), there.fs, target)
    _check_single(name, [mine, *receive_entries(repo, key)])  # another one may have been sent at the same moment
    return True


def put(repo: Repo, file: Path, name: str) -> None:
    """Send a file to the default remote, by a `name` beside DVC's own folders."""
    remote = repo.cloud.get_remote_odb(hash_name=LEGACY)
    copy(repo.cache.legacy.fs, str(file), remote.fs, remote.fs.join(remote.path, name))


def _check_single(name: str, entries: Sequence[Entry]) -> None:
    """Raise Ambiguous if the entries of one key are several."""
    for entry in entries[1:]:
        if entry.value != entries[0].value:
            both = (entries[0].data["outs"], entry.data["outs"])
            hashes = [{out["path"]: out.get("md5", "none") for out in outs} for outs in both]
            differing = [(path, digest, hashes[1].get(path, "none")) for path, digest in hashes[0].items()]
            raise Ambiguous(name, [each for each in differing if each[1] != each[2]])


def _folder_of_runs(odb: HashFileDB, key: str) -> str:
    return odb.fs.join(odb.path, RUN_CACHE, key[:2], key)


def _entry(repo: Repo, key: str, value: str) -> Path:
    return Path(repo.cache.legacy.path, RUN_CACHE, key[:2], key, value)


def lacking(stage: Stage) -> list[str]:
    """Return the hashes of a stage's outputs that are not in the cache; of a folder that of its listing."""
    return [out.hash_info.value for out in stage.outs if out.hash_info and out.changed_cache()]


def pull_outputs(stage: Stage) -> None:
    """Fetch the outputs of a stage from the default remote into the cache."""
    for hashes in stage.get_used_objs().values():
        stage.repo.cloud.pull(hashes)


def pull_hashes(repo: Repo, digests: Iterable[str]) -> None:
    """Fetch what hashes name, each a file or, ending in `.dir`, a folder, from the default remote into the cache."""
    from dvc_data.hashfile.hash_info import HashInfo

    repo.cloud.pull([HashInfo("md5", digest) for digest in digests])


def failed(stage: Stage, code: int) -> DvcException:
    """Return what DVC raises for a stage's last command that ended with `code`."""
    return StageCmdFailedError(command_of(stage)[-1], code)


def process_options(stage: Stage) -> dict[str, Any]:
    """Return the options of `subprocess.Popen` with which DVC runs a stage's command."""
    return dvc.stage.run.prepare_kwargs(stage)


def only_warnings() -> None:
    """Keep DVC from printing what it would do next, and commands, which are in dvc.yaml."""
    logging.getLogger("dvc").setLevel(logging.WARNING)


def write_lock(path: Path, lock: Mapping[str, Any]) -> None:
    """Write a dvc.lock as DVC would."""
    dump_yaml(path, lock)


# --- outputs


def take_for_made(repo: Repo) -> None:
    """Let what lies where outputs belong count as what all stages made of the inputs that are there.

    DVC's own `commit` reads and writes dvc.lock once a stage.
    """
    entries = {}
    with repo.lock:
        for stage in repo.index.stages:
            stage.save()
            stage.commit()
            entries[stage.addressing] = to_single_stage_lockfile(stage)
        write_lock(Path(repo.root_dir, "dvc.lock"), {"schema": "2.0", "stages": entries})


def delete_outputs(repo: Repo) -> Iterator[str]:
    """Delete what the stages made in the working tree; yield each path.

    A stage without a command is what `dvc add` made of the user's own data, which stays.
    """
    for stage in repo.index.stages:
        for out in stage.outs if stage.cmd else []:
            if out.exists:
                out.remove()
                yield str(out)


# --- cache and remote


def config(folder: Path) -> Mapping[str, Any]:
    """Return what DVC reads from the config files in a folder like `.dvc`."""
    from dvc.config import Config

    return Config(dvc_dir=str(folder), validate=True)


def push(repo: Repo) -> int:
    """Send data and run-cache to the default remote; return how many files were sent."""
    repo.stage_cache.transfer = _send
    return repo.push(run_cache=True)


def _send(cache: HashFileDB, remote: HashFileDB, force: bool = True) -> list[tuple[str, str]]:
    """Send the entries of the run-cache that a remote lacks, in place of `StageCache.transfer`, which sends all again.

    Return key and value of each.
    """
    if protocol(remote) in ("http", "https"):
        raise dvc.stage.cache.RunCacheNotSupported(remote.path)
    there = remote.fs.join(remote.path, RUN_CACHE)
    has = set(remote.fs.find(there)) if remote.fs.exists(there) else set()
    sent = []
    for entry in Path(cache.path, RUN_CACHE).glob("*/*/*"):
        target = remote.fs.join(there, *entry.parts[-3:])
        if target not in has:
            log_exceptions(copy)(cache.fs, str(entry), remote.fs, target)
            sent.append((entry.parts[-2], entry.name))
    return sent


def pull(repo: Repo) -> int:
    """Fetch data and run-cache from the default remote, and check the data out; return how many files were fetched.

    What was never pushed is left out, and so are entries of the run-cache that are not what their names say.
    """
    repo.stage_cache.transfer = _receive
    return repo.pull(run_cache=True, allow_missing=True)["stats"]["fetched"]


def _receive(remote: HashFileDB, cache: HashFileDB, force: bool = True) -> list[tuple[str, str]]:
    """Fetch the run-cache, in place of DVC's own `StageCache.transfer`; return key and value of each entry.

    DVC copies whatever lies below runs/ to the same name here, so a bucket's writer could name any file; and an entry
    says what is checked out where. Key and value are digests of the entry, and the key covers the paths of its outputs.
    """
    if protocol(remote) in ("http", "https"):
        raise dvc.stage.cache.RunCacheNotSupported(remote.path)
    runs = remote.fs.join(remote.path, RUN_CACHE)
    sources = remote.fs.find(runs) if remote.fs.exists(runs) else []
    return [entry for source in sources if (entry := _received(remote, cache, source))]


def _received(remote: HashFileDB, cache: HashFileDB, source: str) -> tuple[str, str] | None:
    """Fetch an entry of the run-cache; return its key and value, None if it is none, which is said."""
    name = source.removeprefix(remote.path).lstrip("/")
    match, data = ENTRY.fullmatch(name), b""
    if match:  # by another name a server may refuse to hand it out
        with remote.fs.open(source, "rb") as file:
            data = file.read(ENTRY_BYTES + 1)
    if not match or not _is_entry(data, match[2], match[3]):
        found = printable(name)[:200]
        logging.getLogger("dvc").warning("%s on the remote is no entry of the run-cache: it is left there", found)
        return None
    folder = Path(cache.path, RUN_CACHE, match[1], match[2])
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / match[3], data)
    return match[2], match[3]


def _is_entry(data: bytes, key: str, value: str) -> bool:
    """Return whether `data` is the entry of the run-cache that DVC would give these names."""
    try:
        if len(data) > ENTRY_BYTES:
            return False
        entry = load_strangers_yaml(data, aliases=False)
        digest = dvc.stage.cache._get_cache_hash
        return digest(dict(entry)) == value and digest(dict(entry), key=True) == key
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError):
        return False


def remote_of(repo: Repo) -> HashFileDB:
    """Return DVC's default remote."""
    return repo.cloud.get_remote_odb()


def cache_of(repo: Repo) -> HashFileDB:
    """Return DVC's cache in the clone."""
    return repo.cache.local


class Output(NamedTuple):
    """An output of a stage, or data of the user's that `dvc add` made one; `oid` is None if no dvc.lock names it."""

    path: str
    oid: str | None
    by_a_stage: bool


def outputs(repo: Repo) -> list[Output]:
    """Return all outputs whose data is DVC's."""
    return [
        Output(str(out), out.hash_info.value if out.hash_info else None, bool(out.stage.cmd))
        for out in repo.index.outs
        if out.use_cache
    ]


def output_hashes(repo: Repo) -> set[str]:
    """Return the hashes of all outputs that dvc.lock and .dvc files name."""
    return {out.hash_info.value for out in repo.index.outs if out.hash_info}


def size_of(odb: HashFileDB, oid: str) -> int | None:
    """Return the size in bytes of the object `oid`; None if it is not there."""
    try:
        return odb.fs.size(odb.oid_to_path(oid))
    except FileNotFoundError:
        return None


def forget_listings(odb: HashFileDB) -> None:
    """Make a remote ask again for what it has listed before."""
    odb.fs.fs.invalidate_cache()


def path_of(odb: HashFileDB, oid: str) -> str:
    """Return where a cache has, or would have, the object `oid`."""
    return odb.oid_to_path(oid)


def address_of(odb: HashFileDB, oid: str) -> str | None:
    """Return the address of the object `oid` in a remote; None if it is not there."""
    return odb.fs.unstrip_protocol(odb.oid_to_path(oid)) if odb.exists(oid) else None


def refused(repo: Repo, output: Output) -> list[str]:
    """Return the addresses of the files of an output that the remote has and, after a pull, the cache has not: they are
    not what their names say."""
    here, there = cache_of(repo), remote_of(repo)
    return [address for oid in _lacking_of(here, output.oid) if (address := address_of(there, oid))]


def _lacking_of(cache: HashFileDB, oid: str | None) -> Iterator[str]:
    """Yield the hashes of what a cache lacks of the file or folder `oid`."""
    if oid and not cache.exists(oid):
        yield oid
    elif oid and oid.endswith(".dir"):
        try:
            files = listed(Path(path_of(cache, oid)).read_bytes())
        except ValueError:
            files = {"": oid}
        yield from (each for each in files.values() if each == oid or not cache.exists(each))


def listed(listing: bytes) -> dict[str, str]:
    """Return the MD5 of each file in a folder, by its path there, as a list of DVC's cache has them.

    Raise ValueError if it is no such list, UserError if it names what is not below the folder.
    """
    try:
        return {file["relpath"]: MD5.fullmatch(file["md5"])[0] for file in check_listing(json.loads(listing))}
    except (TypeError, KeyError, RecursionError):
        raise ValueError("it is no list of DVC's") from None


MD5 = re.compile("[0-9a-f]{32}")


def md5(path: Path) -> str:
    """Return the hash by which dvc.lock names a file or, ending in `.dir`, a folder."""
    from dvc_data.hashfile.hash import file_md5
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    if not path.is_dir():
        return file_md5(str(path))
    tree = Tree()
    for file in path.rglob("*"):
        if file.is_file():
            tree.add(file.relative_to(path).parts, None, HashInfo("md5", md5(file)))
    tree.digest()
    return tree.hash_info.value


def protocol(odb: HashFileDB) -> str:
    """Return how a remote is reached: `local`, `s3`, `http`..."""
    return odb.fs.protocol


def url_of(odb: HashFileDB) -> str:
    """Return where a remote is, without DVC's own folders in it."""
    return odb.fs.unstrip_protocol(odb.path).removesuffix("/files/md5")


def list_s3(odb: HashFileDB) -> dict[str, Any]:
    """Return the first entry of a listing of an S3 remote, as the server words it."""
    bucket, _, prefix = odb.path.partition("/")
    return odb.fs.fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)


def handle_logs(handler: logging.Handler) -> None:
    """Give `handler`, and nobody else, what DVC logs."""
    for name in ("dvc", "dvc_data", "dvc_objects"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
