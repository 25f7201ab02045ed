"""The clone: .env, dvc.yaml, and what an interrupted run may have left."""

import re
from collections.abc import Iterator

from scripts import settings
from scripts.checks.check import Check
from scripts.pipeline import template
from scripts.pipeline.containers import docker, of_this_clone
from scripts.project import PROJECT, Project
from scripts.recovery.dvc_files import locks_are_held

PLACEHOLDER = re.compile(r"^(<.*>|\.\.\.|x{3,}|changeme|your[-_ ].*|token)$|<owner>|<repo>", re.IGNORECASE)


def dotenv(project: Project = PROJECT) -> Iterator[Check]:
    """Check who may read .env, and that no value is a placeholder."""
    mode = project.env.stat().st_mode & 0o777
    yield Check(".env", not mode & 0o077 or None, f"mode {mode:04o}", "others may read the token in it: chmod 600 .env")
    for name, value in settings.read_dotenv(project.env).items():
        if PLACEHOLDER.search(value):
            yield Check(".env", False, f"{name} is a placeholder", "expected a value of yours, or nothing: edit .env")


def pipeline(project: Project = PROJECT) -> Iterator[Check]:
    """Compare dvc.yaml with what its template renders to. Raise UserError if the template or params.yaml is wrong."""
    same = project.dvc_yaml.read_text(errors="replace") == template.load(project.root).text
    found = "matches its template" if same else "differs from what its template renders to"
    yield Check("dvc.yaml", same or None, found, "the next run renders it: commit it then")


def leftovers(project: Project = PROJECT) -> Iterator[Check]:
    """Report what an interrupted run has left."""
    mine = ("container", "ls", "--quiet", "--filter", of_this_clone(), "--filter")
    stages = docker(*mine, "label=pipeline.stage").split()
    running = len(docker(*mine, "label=pipeline.role=runner").split()) > 1  # one is this runner
    orphans = 0 if running else len(stages)
    yield Check("orphans", not orphans or None, f"{orphans} containers of an ended run", "the next run removes them")
    stale = locks_are_held(project) and not running
    found = "DVC's locks are those of an ended run" if stale else "none is stale"
    yield Check("locks", not stale or None, found, "the next run removes them")
