"""The stage kit: what every stage needs and none should write again. It keeps the contract in stages/README.md."""

import errno
import hashlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

import waiting
from atomic_files import writing

STAGE = os.environ.get("STAGE") or Path(sys.argv[0]).stem
"""Name of the running stage; its image sets it."""

log = logging.getLogger(STAGE)


class BadInput(Exception):
    """A mistake of the user's: its text says what, found, expected and what to do, in one line."""


class Args(BaseModel):
    """Base of a stage's arguments: a field each, with its type and range; one without a default is required."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse[A: Args](args: type[A], argv: Sequence[str]) -> A:
    """Read what DVC makes of a section of params.yaml into `args`.

    `--name value` is a value (the text `None` a null), `--name v1 v2` a list, `--name` true and `--no-name` false.
    (argparse would take a negative number such as -1e-05 for an option, and print a page instead of one line.)
    Raise BadInput for an unknown name, a missing one, a wrong type and a value out of range.
    """
    words: dict[str, list[str]] = {}
    for word in argv:
        if word.startswith("--"):
            words[word.removeprefix("--")] = []
        elif words:
            words[next(reversed(words))].append(word)
        else:
            raise BadInput(f"{word!r} comes before any --name; expected --name value")
    given = dict(_value(args, name, values) for name, values in words.items())
    if unknown := [name for name in given if name not in args.model_fields]:
        names = ", ".join(name for name, field in args.model_fields.items() if field.annotation is not Path)
        raise BadInput(f"{STAGE}.{unknown[0]} is no parameter; expected one of {names}: correct it in params.yaml")
    try:
        return args.model_validate(given)
    except ValidationError as error:
        raise BadInput(f"{STAGE}.{first_fault(error)}: correct it in params.yaml") from None


def _value(args: type[Args], name: str, words: list[str]) -> tuple[str, Any]:
    """Return the field that `--name words...` means, and its value."""
    kinds = {key: field.annotation for key, field in args.model_fields.items()}
    if get_origin(kinds.get(name)) is list:
        return name, words
    if not words:
        for field, value in ((name, True), (name.removeprefix("no-"), False)):
            if kinds.get(field) is bool:
                return field, value
        raise BadInput(f"{STAGE}.{name} has no value; expected one: correct it in params.yaml")
    return name, words if len(words) > 1 else None if words == ["None"] else words[0]


def first_fault(error: ValidationError) -> str:
    """Return name, value found and what is allowed, of the first value that pydantic refused."""
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"])) or "value"
    if first["type"] == "missing":
        return f"{name} is missing; expected a value"
    allowed = first["msg"].removeprefix("Input should be ").removeprefix("Value should be ")
    allowed = allowed.replace("String should", "a string that should")
    return f"{name} is {first['input']!r}; expected {allowed}"


def run[A: Args](main: Callable[[A], None], args: type[A], *, imports: Sequence[str] = ()) -> None:
    """Parse the command line, call `main` and exit as the stage contract says; `imports`: see `waiting`."""
    waiting.for_inputs(imports)
    logging.basicConfig(format=f"%(asctime)s {STAGE}: %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is half written is deleted
    try:
        main(parse(args, sys.argv[1:]))
    except BadInput as error:
        problem = str(error)
    except FileNotFoundError as error:
        if any(name.endswith(".part") for name in Path(str(error.filename)).parts):
            raise  # what `writing` was to write, or something in it: a mistake of the stage's, not of the user's
        problem = f"{error.filename} is not there; stages see only what they declare: add it to the inputs of "
        problem += "its block in dvc.yaml.template"
    except OSError as error:
        # What the machine lacks is one line as well; any other error of the system is a crash.
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT):
            raise
        problem = f"cannot write {error.filename or 'the output'}: {error.strerror}; expected a folder that uid "
        problem += f"{os.getuid()} may write, with free space: mend that and run again"
    else:
        return
    print(f"error: {STAGE}: {problem}", file=sys.stderr)
    sys.exit(2)


def log_metric(*, step: int, **values: float) -> None:
    """Print the values of one step, for the run to show and to log to MLflow while the stage runs."""
    pairs = " ".join(f"{name}={float(value)}" for name, value in values.items())
    print(f"::metric {pairs} step={step}\n", end="", flush=True)  # in one piece: threads print too


def rounded(value: Any) -> Any:
    """Return `value` with each number in it rounded to 6 decimals, to which processors agree."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return round(float(value), 6) + 0.0 if isinstance(value, float) else value  # + 0.0: no -0.0


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write `value` to `path`, rounded, in the order of its keys, ending in a newline."""
    with writing(path) as part:
        part.write_text(json.dumps(rounded(value), indent=2, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """Return the file's SHA-256 as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
