"""What `make run` would do with each stage, and why, by the run's own decision; nothing is changed, built or run."""

import os
import sys
from collections.abc import Sequence

import yaml

from scripts import places
from scripts.explain.causes import Clone, causes
from scripts.explain.report import Found
from scripts.pipeline import dvc_adapter, images, template
from scripts.pipeline.console import printable
from scripts.project import Project, UserError
from scripts.recovery import dvc_files
from scripts.yaml12 import load_yaml


def note(text: str) -> None:
    print(f"note: {printable(text)}", file=sys.stderr, flush=True)


class _Remote:
    """Says whether the remote has outputs; one that failed once is not asked again."""

    def __init__(self) -> None:
        self._failed = False

    def has(self, stage: dvc_adapter.Stage) -> bool:
        if self._failed:
            return False
        from scripts import transfer  # only now: a client of S3 takes long to import

        try:
            return transfer.remote_has(stage)
        except transfer.FAULTS as error:
            self._failed = True
            note(f"{transfer.why_not(error)}, so what is only there counts as not there, as it would in a run now")
            return False


def explain(project: Project, targets: Sequence[str], *, ended_well: bool) -> Found:
    """Return what a run of `targets` (none: all stages) would do with each stage, and why, in the order of a run.

    `ended_well`: whether the clone's last command did. Raise UserError for what would end a run before it begins.
    """
    wanted = images.load(project.stages)
    pipeline = template.load(project.root, wanted)
    places.check_paths(pipeline.paths, os.environ, project)
    if not project.dvc_yaml.exists():
        raise UserError("dvc.yaml is not there; expected what its template gives: call 'make setup-dvc' first")
    lock = dvc_files.sound_dvc_lock(project, ended_well=ended_well).decode(errors="replace")
    if not ended_well:
        note("the last command here did not end well: the next one first clears what it left, and may find less")
    texts = {project.dvc_yaml: pipeline.text}
    if project.dvc_lock.exists() and lock != project.dvc_lock.read_text(errors="replace"):
        texts[project.dvc_lock] = lock or "schema: '2.0'\n"
    remote = _Remote()
    with dvc_adapter.errors(), dvc_adapter.only_looking(project.root, texts) as repo:
        planned = dvc_adapter.plan(repo, pipeline.with_scorers(targets))
        found = list(dvc_adapter.forecast(repo, planned, remote.has))
    clone = Clone(project, pipeline, wanted, _recorded(lock))
    return [(about, causes(clone, about)) for about in found]


def _recorded(lock: str) -> dict[str, dict]:
    try:
        return (load_yaml(lock) or {}).get("stages", {})
    except (yaml.YAMLError, AttributeError):  # DVC has refused it with a sentence, or will
        return {}
