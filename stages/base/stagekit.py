"""The stage kit: what every stage needs and none should write again.

A stage is a program that gets paths and parameters as `--name value` arguments, writes the outputs that it declared
and nothing else, and exits 0, or 2 with one line on bad input (what, found, expected), or anything else on a crash.
"""

import argparse
import errno
import hashlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

STAGE = Path(sys.argv[0]).stem
"""Name of the running stage: `train` in `python /app/train.py`."""

log = logging.getLogger(STAGE)


class BadInput(Exception):
    """The user's mistake, not ours: its text says what, found, expected and what to do, in one line."""


class Args(BaseModel):
    """Base of a stage's arguments: a field an argument, its annotation the type and range, no default a must."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse[A: Args](args: type[A], argv: Sequence[str]) -> A:
    """Reads `--name value` into `args`.

    The text `None` is what DVC makes of a null in params.yaml; a bool comes as `--name` or `--no-name`.
    Raises BadInput for an unknown name, a missing one, a wrong type and a value out of range.
    """
    parser = argparse.ArgumentParser(prog=STAGE, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for name, field in args.model_fields.items():
        action = argparse.BooleanOptionalAction if field.annotation is bool else "store"
        parser.add_argument(f"--{name}", action=action)
    known, unknown = parser.parse_known_args(argv)
    if unknown:
        names = ", ".join(args.model_fields)
        raise BadInput(f"unknown argument {unknown[0]}; expected one of {names}: remove it from params.yaml")
    values = {name: None if value == "None" else value for name, value in vars(known).items()}
    try:
        return args.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"])) or "arguments"
        found = "nothing" if first["type"] == "missing" else repr(values.get(name))
        raise BadInput(f"{STAGE}.{name} is {found}; {first['msg']}: correct it in params.yaml") from None


def run[A: Args](main: Callable[[A], None], args: type[A]) -> None:
    """Parses the command line, calls `main` and exits as the stage contract says."""
    logging.basicConfig(format=f"%(asctime)s {STAGE}: %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    try:
        main(parse(args, sys.argv[1:]))
    except BadInput as error:
        problem = str(error)
    except OSError as error:
        # What the machine lacks is said in a line as well; any other error of the system is a crash.
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT):
            raise
        problem = f"cannot write {error.filename or 'the output'}: {error.strerror}; expected a folder that uid "
        problem += f"{os.getuid()} may write, with free space: mend that and run again"
    else:
        return
    print(f"error: {STAGE}: {problem}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside `path` that becomes `path` if the block ends well and is gone if it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def rounded(value: Any) -> Any:
    """`value` with each number in it rounded to 6 decimals: what agrees across machines (processors differ after)."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return round(float(value), 6) if isinstance(value, float) else value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Writes `value` to `path`, rounded, in the order of its keys, ending in a newline."""
    with writing(path) as part:
        part.write_text(json.dumps(rounded(value), indent=2, allow_nan=False) + "\n")


def sha256(path: Path) -> str:
    """The file's SHA-256 as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
