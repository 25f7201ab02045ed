"""Finds the version of the template that a fork has its machinery from: the base of the merge.

An upgrade names it in its commit. Before the first one nothing does; but then some commit of the fork has the
machinery of that version, unchanged, be it a clone or a copy of the files into a repository of its own.
"""

import re

from scripts.project import PROJECT, Project, UserError
from scripts.registry.provenance import git

TRAILER = "Template-Commit"
MUST_BE_EQUAL = ("scripts", "stages/base")
MAY_BE_GONE = (
    "tests", "benchmarks", "Makefile", "Dockerfile.runner", "docker-compose.yml", "pyproject.toml", ".env.example",
    ".github", ".ci", "SECURITY.md", "CONTRIBUTING.md", ".gitattributes", ".dvcignore", "stages/README.md",
)  # fmt: skip
"""Who copies the files leaves out what is of no use to him."""
NONE = "none"


def find(new: str, project: Project = PROJECT) -> str:
    """Return the commit in the history of `new` that HEAD has its machinery from. Raise UserError if there is none.

    Of all commits of the fork the latest decides: before it, the fork may have had another version.
    """
    theirs = git("rev-list", new, project=project).split()
    recorded = git("log", f"--format=%H %(trailers:key={TRAILER},valueonly,unfold,separator=%x20)", project=project)
    newest: dict[tuple[str, ...], str] = {}  # of several with the same machinery
    made = _machinery(theirs, project)
    for commit in theirs:
        newest.setdefault(made[commit], commit)
    by_core: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for ids in newest:
        by_core.setdefault(ids[: len(MUST_BE_EQUAL)], []).append(ids)
    ours = [line.split() for line in recorded.splitlines()]
    have = _machinery([commit for commit, *_ in ours], project)
    for commit, *named in ours:
        mine = have[commit]
        for ids in by_core.get(mine[: len(MUST_BE_EQUAL)], []):
            if NONE not in mine[: len(MUST_BE_EQUAL)] and all(o in (NONE, t) for o, t in zip(mine, ids, strict=True)):
                return newest[ids]
        if known := [name for name in named if name in made]:
            return known[-1]
        if named:
            raise UserError(
                f"this fork was upgraded to {named[-1][:12]}, which is not in the history of {new[:12]}; expected a "
                "newer version of the same repository: correct FROM, or name the commit to start from, as BASE=commit"
            )
    raise UserError(
        "no commit of this fork has the machinery of any version there; expected the one that it was made from: name "
        "it, as BASE=commit, or fetch the rest of the history ('git fetch --unshallow') if this clone is shallow"
    )


def given(name: str, new: str, project: Project = PROJECT) -> str:
    """Return the commit that a person names as the base. Raise UserError if it is not in the history of `new`."""
    found = ""
    if re.fullmatch(r"[\w./^~@{}-]+", name) and not name.startswith("-"):
        found = git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", project=project, may_fail=True).strip()
    if not found or found not in git("rev-list", new, project=project).split():
        raise UserError(f"BASE is {name[:100]!r}; expected a commit in the history of {new[:12]}: correct it")
    return found


def _machinery(commits: list[str], project: Project) -> dict[str, tuple[str, ...]]:
    """Return what each commit has at the paths above: git's ids, NONE for what is not there."""
    paths = (*MUST_BE_EQUAL, *MAY_BE_GONE)
    asked = "".join(f"{commit}:{path}\n" for commit in commits for path in paths)
    answers = git("cat-file", "--batch-check=%(objectname)", project=project, given=asked).splitlines()
    ids = [NONE if answer.endswith(" missing") else answer for answer in answers]
    return {commit: tuple(ids[n * len(paths) : (n + 1) * len(paths)]) for n, commit in enumerate(commits)}
