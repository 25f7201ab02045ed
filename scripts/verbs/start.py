"""`make start NEW=1`: takes the stages out and leaves one small stage to begin with. Shows what it does, and asks."""

from scripts.asking import go_on
from scripts.project import PROJECT, UserError
from scripts.scaffold import start


def main(arguments: list[str]) -> None:
    given = dict(argument.split("=", 1) for argument in arguments)
    if given["new"] != "1":
        raise UserError(
            f"NEW is {given['new'][:100]!r}; expected NEW=1, which takes the stages out for a pipeline of your own"
        )
    plan = start.planned(PROJECT.root, given["name"])
    print("\n".join(plan.told()), flush=True)
    go_on(agreed=given["yes"] == "1")
    plan.apply()
    name, folder = plan.new.stage.name, plan.new.stage.folder
    print(f"done; 'git diff' shows it, and 'git checkout . && git clean -fd stages/{name} {folder}' takes it back")
    print(f"your work goes where stages/{name}/{name}.py says YOUR WORK; README.md still describes what was there")
    print(f"then   make run test-{name}; make new-stage NAME=... AFTER={name}; git add --all, git commit")
