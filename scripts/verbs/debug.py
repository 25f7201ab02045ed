"""`make debug-<stage>`: a shell in the stage's image with what the stage has, its code as it is on the host, and an
output folder that nothing publishes."""

import os
import shlex
import sys
from collections.abc import Sequence

from scripts.pipeline import build, dvc_adapter, images, takeover, template
from scripts.pipeline.stage import Mount, Pipeline, Stage
from scripts.project import PROJECT, Project, UserError

MARK = "MADE_BY_DEBUG.txt"


def chosen(pipeline: Pipeline, name: str) -> Stage:
    """Return a stage by name. Raise UserError if there is none, or several of a foreach."""
    found = [stage for stage in pipeline.stages.values() if name in (stage.name, stage.block)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(stage.name for stage in found) or ", ".join(pipeline.stages)
    what = "are several stages" if found else "is no stage"
    raise UserError(f"{name} {what}; expected one of {names}: correct the name")


def check_inputs(stage: Stage, pipeline: Pipeline, project: Project) -> None:
    """Raise UserError if an input is not here."""
    for path in stage.inputs.values():
        if not (project.root / path).exists():
            maker = next((other for other in pipeline.needs(stage.name)), None)
            how = f"'make run-{maker}' makes it" if maker else "add it"
            raise UserError(f"{stage.name} reads {path}, which is not here; expected it: {how}")


def command(stage: Stage, typed: str, *, terminal: bool, scratch: str) -> str:
    """Return the `docker run` of the stage for a person: `typed` runs with the stage's arguments, by default a shell.

    `scratch` is the folder of the clone that takes the outputs' place.
    """
    mounts = [Mount(path, path, True) for path in stage.inputs.values()]
    mounts += [Mount(f"{scratch}/{stage.folder}", stage.folder, False)]
    code = f'--mount "type=bind,src=$PWD/stages/{stage.block},dst=/app,readonly"'
    options = f"--interactive {'--tty ' if terminal else ''}--entrypoint sh --env DEBUG=1 {code}"
    parameters = "" if stage.section is None else dvc_adapter.arguments(stage.section)
    run = f'exec {typed} "$@"' if typed else 'exec "$(command -v bash || echo sh)" -s -- "$@"'
    before = shlex.join(["-c", run, "sh"])
    return stage.docker_run(mounts, parameters=parameters, options=options, before=before, label="pipeline.debug")


def main(arguments: Sequence[str]) -> None:
    name, typed = arguments[0], arguments[1].removeprefix("cmd=")
    wanted = images.load(PROJECT.stages)
    pipeline = template.load(PROJECT.root, wanted)
    stage = chosen(pipeline, name)
    check_inputs(stage, pipeline, PROJECT)
    build.ensure({each: wanted[each] for each in (images.BASE, stage.block)}, PROJECT)
    scratch = PROJECT.local / "debug" / stage.name
    takeover.remove_tree(scratch)
    (scratch / stage.folder).mkdir(parents=True)
    (scratch / MARK).write_text(f"What is here was made by 'make debug-{stage.name}'. Nothing reads it.\n")
    relative = scratch.relative_to(PROJECT.root)
    if not typed:
        print(f'{stage.name}: a shell in {stage.image}; its program: python /app/{stage.block}.py "$@"')
    print(
        f"what it writes is in {relative}/, which nothing reads or publishes; edits of stages/{stage.block}/ are live"
    )
    sys.stdout.flush()
    os.environ.update(pipeline.given(os.environ))
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    os.execvp("sh", ["sh", "-c", f"exec {command(stage, typed, terminal=terminal, scratch=str(relative))}"])
