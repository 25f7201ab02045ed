"""The two halves of `make upgrade` that need no network; scripts/host/upgrade.sh does the rest, on the host.

`plan COMMIT URL BASE` merges the machinery of a commit that is here into HEAD's and leaves tree and message of the
upgrade's commit in .local/upgrade: no tree if there is nothing to do. BASE is what a person names, or empty.
`finish COMMIT` renders dvc.yaml by the new machinery, and says what differs from that commit. The `plan` of an old
version is followed by the `finish` of a new one.
"""

import shutil

from scripts.pipeline import template
from scripts.pipeline.console import printable, tell
from scripts.project import PROJECT, Project
from scripts.registry.provenance import git
from scripts.upgrading import merge, origin


def plan(new: str, url: str, base: str, project: Project) -> None:
    folder = project.local / "upgrade"
    shutil.rmtree(folder, ignore_errors=True)
    found = origin.given(base, new, project) if base else origin.find(new, project)
    upgrade = merge.merge(found, new, project)
    if upgrade.tree == git("rev-parse", "HEAD^{tree}", project=project).strip():
        print(f"nothing to do: this fork has the machinery of {new[:12]} at {merge.shown(url)}")
        return
    merge.write(upgrade, url, folder, project)
    tell(f"from {found[:12]}, which this fork was made from or upgraded to:\n")
    tell(merge.message(upgrade, url, project))
    if own := merge.left_alone(upgrade, project):
        named = ", ".join(map(printable, own[: merge.MOST])) + (" ..." if len(own) > merge.MOST else "")
        tell(
            f"newer there as well, but yours and so left alone: {named}; 'git checkout {new[:12]} -- FILE' takes one\n"
        )
    print(git("diff", "--shortstat", "HEAD", upgrade.tree, project=project).strip())


def finish(old: str, project: Project) -> None:
    before = git("show", f"{old}:dvc.yaml", project=project, may_fail=True)
    pipeline = template.load(project.root)
    template.write(pipeline, project.root)
    changed = merge.changed_stages(before, pipeline.text)
    print(
        f"the next 'make run' runs {', '.join(changed)}, and what depends on an output that is then another"
        if changed
        else "no stage's command changed: nothing is to be run again"
    )


def main(arguments: list[str], project: Project = PROJECT) -> None:
    half, *words = arguments
    {"plan": plan, "finish": finish}[half](*words, project)
