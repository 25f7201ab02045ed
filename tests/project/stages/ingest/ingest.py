"""Gets the raw table and checks it: the bundled one, a URL with its SHA-256, or a file of the user's."""

import csv
import http.client
import io
import math
import os
import shutil
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from pydantic import Field

from stagekit import Args, BadInput, log, run, sha256, writing

BUNDLED = Path(__file__).parent / "iris.csv"
COLUMNS = ["sepal_length", "sepal_width", "petal_length", "petal_width", "species"]
PATIENCE = 10  # seconds for a server to say something


class IngestArgs(Args):
    """`source` is `bundled`, an http(s) URL, or a path below data/external/; `external` is that file, mounted."""

    out: Path
    source: str
    sha256: Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")] | None = None
    external: Path | None = None


@contextmanager
def in_time(what: str) -> Iterator[None]:
    """Raise BadInput in a block that takes longer than DOWNLOAD_TIMEOUT."""
    limit = int(os.environ.get("DOWNLOAD_TIMEOUT", "600"))

    def stop(*_: object) -> None:
        raise BadInput(f"{what} took longer than {limit} s; expected its end by then: raise DOWNLOAD_TIMEOUT in .env")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)


def download(url: str, path: Path) -> None:
    """Write what `url` serves to `path`. Raise BadInput if it cannot be downloaded whole."""
    try:
        with (
            in_time(f"the download of {url}"),
            urllib.request.urlopen(url, timeout=PATIENCE) as response,
            path.open("wb") as file,
        ):
            file.write(response.read())
    except (OSError, http.client.HTTPException) as error:
        raise BadInput(
            f"ingest.source {url} cannot be downloaded: {error}; expected a CSV file there: correct it or try later"
        ) from None


def check_digest(path: Path, expected: str | None, name: str) -> None:
    if expected and (found := sha256(path)) != expected.lower():
        raise BadInput(
            f"{name} has the SHA-256 {found}; expected {expected}: if the new file is right, "
            "set ingest.sha256 in params.yaml"
        )


def table(path: Path, name: str) -> list[list[str]]:
    """Return the rows of the CSV file at `path`, called `name` in messages. Raise BadInput for the first fault."""
    try:
        header, *rows = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig") or "\n"))
    except UnicodeDecodeError as error:
        raise BadInput(f"{name} is not UTF-8 (byte {error.start}); expected a CSV file in UTF-8: convert it") from None
    if wrong := sorted({*header} ^ {*COLUMNS}):
        what = "is missing" if wrong[0] in COLUMNS else "is not expected"
        raise BadInput(f"{name}: column {wrong[0]} {what}; expected the columns {', '.join(COLUMNS)}: correct the file")
    if not rows:
        raise BadInput(f"{name} has no rows; expected at least one: correct the file")
    if len({row[-1] for row in rows}) < 2:
        raise BadInput(f"{name} has one class, {rows[0][-1]}; expected at least two: correct the file")
    for number, row in enumerate(rows, 1):
        for column, cell in zip(COLUMNS[:-1], row, strict=False):
            if not 0 < number_in(cell) <= 100:
                where = f"column {column} in data row {number} holds {cell!r}"
                raise BadInput(f"{name}: {where}; expected a number of cm in (0, 100]: correct the file")
    return rows


def number_in(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def main(args: IngestArgs) -> None:
    with writing(args.out) as part:
        if args.source.startswith(("http://", "https://")):
            if not args.sha256:
                raise BadInput("ingest.sha256 is null; expected the SHA-256 of ingest.source's file: set it")
            download(args.source, part)
        elif args.external:
            shutil.copyfile(args.external, part)
        else:
            shutil.copyfile(BUNDLED, part)
        check_digest(part, args.sha256, args.source)
        rows = table(part, args.source)
        with part.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
    log.info("%d rows of %s -> %s", len(rows), args.source, args.out)


if __name__ == "__main__":
    run(main, IngestArgs)
