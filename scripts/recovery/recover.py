"""Clears what a run that was killed left behind; each thing that it finds is said in a line.

To be called under the clone's lock: what is still there of a run is then of one that is no more.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from scripts.pipeline.containers import docker, of_this_clone
from scripts.project import LOCAL, ROOT, load_yaml

RWLOCK = ".dvc/tmp/rwlock"
DVC_LOCK = ROOT / "dvc.lock"
KEPT = LOCAL / "dvc.lock"
"""The last dvc.lock that was whole: DVC writes dvc.lock in place, so a kill can leave half of it."""
EARLY = LOCAL / "early"
"""The inputs and outputs of stages whose container started before its inputs were there."""
CACHE = ROOT / ".dvc" / "cache"
STARTS_WITHIN = timedelta(minutes=1)
GRACE = 10  # seconds that a stage has to end by itself, as Docker's own default


def heal(*, ended_well: bool) -> None:
    """Makes the clone fit for a run. `ended_well`: whether the last one did; else half-written files are looked for."""
    if stop_stages(grace=0):
        say("removed the container of a stage that an interrupted run had left")
    if EARLY.exists():
        shutil.rmtree(EARLY, ignore_errors=True)
        say("deleted what a stage that was started early had been given")
    remove_unstarted_runners()
    clear_dvcs_locks()
    restore_dvc_lock(ended_well=ended_well)
    remove_damaged_objects()
    if not ended_well:
        remove_half_written()
    remove_empty_entries()


def say(what: str) -> None:
    print(f"healed: {what}", flush=True)


# --- containers


def stop_stages(stage: str = "", *, grace: int = GRACE) -> bool:
    """Stops and removes this clone's containers of `stage`, or of all stages; tells whether there were any.

    A docker client that is killed leaves its container running, which would go on to write outputs.
    """
    label = f"label=pipeline.stage={stage}" if stage else "label=pipeline.stage"
    found = docker("container", "ls", "--all", "--quiet", "--filter", of_this_clone(), "--filter", label).split()
    if found:
        # Neither need succeed: each container may be gone by itself meanwhile.
        subprocess.run(["docker", "container", "stop", "--time", str(grace), *found], capture_output=True)
        subprocess.run(["docker", "container", "rm", "--force", *found], capture_output=True)
    return bool(found)


def remove_unstarted_runners() -> None:
    """Removes runners that were made and never started, since their docker client was killed in between."""
    mine = ["--filter", of_this_clone(), "--filter", "label=pipeline.role=runner", "--filter", "status=created"]
    for line in docker("container", "ls", "--all", *mine, "--format", "{{.ID}} {{.CreatedAt}}").splitlines():
        name, day, time, zone, *_ = line.split()
        if datetime.now(UTC) - datetime.fromisoformat(f"{day} {time}{zone}") > STARTS_WITHIN:
            # Not 'prune', of which the engine runs one at a time, for all clones.
            docker("container", "rm", "--force", name)
            say("removed a runner that had never started")


# --- DVC's own files


def clear_dvcs_locks() -> None:
    """Deletes DVC's list of who reads and writes what: it names processes by numbers, of containers that are gone."""
    if locks_are_held():
        (ROOT / RWLOCK).unlink()
        say("cleared the locks of an interrupted DVC")


def locks_are_held() -> bool:
    """Whether DVC's list names somebody, be he alive or not."""
    path = ROOT / RWLOCK
    return path.exists() and not is_idle(path.read_text(errors="replace"))


def is_idle(rwlock: str) -> bool:
    """Whether DVC's list names nobody; what is no list, such as half of one, might."""
    try:
        return not any(json.loads(rwlock).values())
    except (ValueError, AttributeError):
        return False


def is_whole(lock: str) -> bool:
    """Whether `lock` is all of a dvc.lock, as far as one can tell: the end of its last file is there, and no stage
    lacks its outputs."""
    try:
        stages = load_yaml(lock)["stages"]
        files = [file for stage in stages.values() for file in stage["outs"]]  # the last that DVC writes of a stage
    except (yaml.YAMLError, KeyError, TypeError, AttributeError):
        return False
    return lock.endswith("\n") and all("path" in file and "size" in file for file in files)


def keep_dvc_lock() -> bool:
    """Keeps a copy of dvc.lock if that is whole; tells whether it is. To be called whenever a stage has ended."""
    try:
        text = DVC_LOCK.read_text()
    except (FileNotFoundError, UnicodeDecodeError):
        return False
    if not is_whole(text):
        return False
    part = KEPT.with_name(f".{KEPT.name}.part")
    part.write_text(text)
    part.replace(KEPT)
    return True


def restore_dvc_lock(*, ended_well: bool) -> None:
    """Puts the kept copy in the place of a dvc.lock that was cut off; a merge's conflict is the user's to solve."""
    if keep_dvc_lock() or not DVC_LOCK.exists() or b"<<<<<<< " in DVC_LOCK.read_bytes():
        return
    if KEPT.exists():
        part = DVC_LOCK.with_name(f".{DVC_LOCK.name}.part")
        shutil.copyfile(KEPT, part)
        part.replace(DVC_LOCK)
        say("restored dvc.lock, which was cut off, as it was when it last was whole")
    elif not ended_well:
        DVC_LOCK.unlink()
        say("deleted dvc.lock, which was cut off when the first stage ended")


def remove_damaged_objects() -> None:
    """Deletes from DVC's cache the files that are not of the size that dvc.lock or the run-cache has of them.

    DVC trusts whatever lies there. What is gone it makes again.
    """
    for digest, size in sizes():
        path = CACHE / "files" / "md5" / digest[:2] / digest[2:]
        if path.exists() and path.stat().st_size != size:
            path.unlink()
            say(f"removed a damaged file from DVC's cache ({path.relative_to(ROOT)})")


def sizes() -> Iterator[tuple[str, int]]:
    """MD5 and size of each file that dvc.lock or an entry of the run-cache names."""
    for path in [DVC_LOCK, *(CACHE / "runs").glob("*/*/*")]:
        if path.exists():
            found = re.findall(r"\bmd5: ([0-9a-f]{32})\n +size: (\d+)\n", path.read_text(errors="replace"))
            yield from ((digest, int(size)) for digest, size in found)


# --- files that were being written


def remove_half_written() -> None:
    """Deletes the temporary files of ours, of the stages and of DVC: what becomes the real one only when whole."""
    folders = {path.parent for path in outputs()} | {ROOT, LOCAL}
    ours = [part for folder in folders for part in folder.glob(".*.part")]
    for part in [*ours, *CACHE.rglob("*.tmp")]:
        part.unlink(missing_ok=True)
        say(f"deleted {part.relative_to(ROOT)}, which was half written")


def remove_empty_entries() -> None:
    """Deletes the folders of DVC's run-cache that were made and never filled, over which DVC stumbles (TypeError)."""
    for folder in (CACHE / "runs").glob("*/*"):
        if not any(folder.iterdir()):
            folder.rmdir()
            say("removed an empty entry of the run-cache")


def outputs() -> Iterator[Path]:
    """The files that the stages make, as far as the dvc.yaml at hand tells."""
    try:
        stages = load_yaml((ROOT / "dvc.yaml").read_text())["stages"]
        for stage in stages.values():
            yield from (ROOT / path for kind in ("outs", "metrics", "plots") for path in stage.get(kind, []))
    except (FileNotFoundError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return  # cut off: it is rendered anew
