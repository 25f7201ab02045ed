"""Files that were being written, and folders that were being worked in, when a run was killed."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from scripts.pipeline.takeover import remove_tree
from scripts.project import Project
from scripts.recovery.report import say
from scripts.yaml12 import load_yaml

FILLED_IN = re.compile(r"\$\{[^}]*\}")
"""What DVC fills in for each value of a foreach."""


def remove_work_folders(project: Project) -> None:
    """Delete what containers were given and what they wrote that was not taken over, and what was being published.

    Raise UserError if that is not possible.
    """
    for folder in (project.prestart, *project.work.glob("*"), project.score, project.publish):
        if folder.exists():
            remove_tree(folder)
            say(f"deleted {folder.relative_to(project.root)}, in which an interrupted run had worked")


def remove_half_written(project: Project) -> None:
    """Delete the temporary files of ours, of the stages and of DVC, which are renamed once they are whole."""
    folders = {path.parent for path in outputs(project)}
    folders |= {project.root, project.local, project.mlflow, project.dvc_config_local.parent}
    ours = [part for folder in folders for part in folder.glob(".*.part")]
    for part in [*ours, *project.cache.rglob("*.tmp")]:
        part.unlink(missing_ok=True)
        say(f"deleted {part.relative_to(project.root)}, which was half written")


def outputs(project: Project) -> Iterator[Path]:
    """Return the outputs of the stages in dvc.yaml; none from where it cannot be read, since it may be cut off."""
    try:
        stages = load_yaml(project.dvc_yaml.read_text())["stages"]
        for stage in stages.values():
            made = stage.get("do", stage)  # of a foreach
            for output in (output for kind in ("outs", "metrics", "plots") for output in made.get(kind, [])):
                # DVC also takes a mapping of a path to its options.
                for path in [output] if isinstance(output, str) else output:
                    pattern = FILLED_IN.sub("*", path)
                    yield from [project.root / path] if pattern == path else project.root.glob(pattern)
    except (FileNotFoundError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return
