"""`python -m scripts VERB [ARGUMENT...]`, in the runner: sets up the environment, then calls the verb's module."""

import gc
import importlib
import os
import sys
import time
from pathlib import Path

from scripts import places, remote, settings
from scripts.pipeline.console import harmless
from scripts.project import LOCAL, ROOT, UserError
from scripts.recovery import recover, run_lock, signals


def package_of(verb: str) -> str:
    """Return the package of a verb's module: that of an optional room if it has a verb of this name."""
    room = next(ROOT.glob(f"scripts/*/verbs/{verb}.py"), None)
    return f"scripts.{room.parent.parent.name}.verbs" if room else "scripts.verbs"


def call(verb: str, arguments: list[str]) -> int:
    """Call a verb's module, under the lock and after recovery if it changes something; return its exit code."""
    module = importlib.import_module(f"{package_of(verb)}.{verb}")
    if verb != "run":  # which collects again as soon as there is something to run
        gc.enable()
    if not is_one_at_a_time(verb):
        return module.main(arguments) or 0
    with run_lock.held(f"make {verb}") as ended_well:
        if verb == "run" and ended_well:
            recover.clear()  # it mends the rest if there may be something to run
        else:
            recover.recover(ended_well=ended_well)
        return module.main(arguments) or 0


def is_one_at_a_time(verb: str) -> bool:
    return verb in importlib.import_module(package_of(verb)).ONE_AT_A_TIME


def hidden(verb: str) -> set[str]:
    """Return the variables that the verb does without: secrets, and settings of optional rooms that are not its own."""
    package = package_of(verb)
    others = {room: names for room, names in settings.of_rooms().items() if package != f"scripts.{room}.verbs"}
    secrets = settings.SECRETS if verb in importlib.import_module(package).NO_SECRETS else ()
    return {*secrets, *(name for names in others.values() for name in names)}


def last_words(text: str) -> None:
    """Print to standard error, after all that was printed before: Docker carries the two streams apart."""
    time.sleep(0.1)
    print("\n".join(map(harmless, text.split("\n"))), file=sys.stderr)


def main(arguments: list[str]) -> int:
    gc.disable()  # what is imported stays: to look through it again and again takes a tenth of a short command
    signals.raise_stopped()
    os.chdir(ROOT)
    Path(os.environ["HOME"]).mkdir(parents=True, exist_ok=True)
    if LOCAL.stat().st_mode & 0o077:
        LOCAL.chmod(0o700)  # DVC's own folder in it is open to all, and DVC runs what it reads there
    verb, *rest = arguments
    try:
        settings.ensure_dotenv()
        variables = settings.load()
        remote.check(variables)
        without = hidden(verb)
        os.environ.clear()
        os.environ.update({name: variables[name] for name in variables if name not in without})
        remote.configure(variables)
        places.check(variables)
        return call(verb, rest)
    except UserError as error:
        last_words(f"error: {error}")
        return error.code
    except signals.Stopped as stopped:
        hint = f"; nothing is lost: 'make {verb}' continues" if is_one_at_a_time(verb) else ""
        last_words(f"interrupted by {stopped.name}{hint}")
        return 128 + stopped.number


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the interpreter would take a tenth of a second to take itself apart
