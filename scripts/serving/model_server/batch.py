"""Predicts for a whole file, a chunk at a time: `python -m model_server.batch ABOUT.json FOLDER IN OUT`.

Prints how far it is to standard error, and at its end a line of JSON: how many rows, and the SHA-256 of the input.
Exit code 2 and one line is a mistake of the user's.
"""

import csv
import hashlib
import io
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from .model import Model, Unusable
from .rows import BadRows, from_csv, from_frame

ROWS, BYTES = 50_000, 16 << 20
"""Of a chunk: whichever it has first."""
LONGEST = 64 << 20  # bytes of a record
BLOCK = 1 << 20  # bytes that are read at once
EMPTY = (b"\n", b"\r\n")
NOTES = 5  # seconds between two lines about how far it is
MARK = b"\xef\xbb\xbf"  # at the beginning of a file that Windows wrote


def records(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the records of a CSV file as they stand there; a quoted cell may hold line breaks. Raise BadRows."""
    whole = b""
    for line in lines:
        if not whole and b'"' not in line:
            if line not in EMPTY:
                yield line
            continue
        whole += line
        if whole.count(b'"') % 2 == 0:
            if whole.strip(b"\r\n"):  # pandas passes over empty lines, too
                yield whole
            whole = b""
        elif len(whole) > LONGEST:
            raise BadRows(f"a quotation mark has no second one within {LONGEST >> 20} MB; expected CSV")
    if whole:
        raise BadRows("the last quotation mark has no second one; expected CSV")


def chunks(found: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Yield the records in lists of at most ROWS, or of little more than BYTES."""
    some: list[bytes] = []
    size = 0
    for record in found:
        some.append(record)
        size += len(record)
        if len(some) == ROWS or size >= BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def read_lines(file: IO[bytes], digest: Any) -> Iterator[bytes]:
    """Yield the lines of a file, and let `digest` have all of its bytes."""
    while some := file.readlines(BLOCK):
        digest.update(b"".join(some))
        yield from some


class Progress:
    """Says now and then how many rows are done, how fast, and what share of the file that is."""

    def __init__(self, size: int) -> None:
        self.rows, self._size = 0, size
        self._began = self._noted = time.monotonic()

    def done(self, rows: int, read: int) -> None:
        self.rows += rows
        now = time.monotonic()
        if now - self._noted >= NOTES:
            self._noted = now
            speed = self.rows / (now - self._began)
            share = f", {100 * read / self._size:.0f} %" if self._size else ""
            print(f"{self.rows:,} rows, {speed:,.0f} a second{share}", file=sys.stderr, flush=True)


def own_columns(model: Model) -> dict[str, Any]:
    return {"model_version": model.version, "model_sha256": model.sha256[:12]}


def check_new(names: list[str], new: list[str]) -> None:
    if taken := [name for name in new if name in names]:
        raise BadRows(f"the table has a column {taken[0]!r} already, which predict writes; expected none: rename it")


def predict_csv(model: Model, source: Path, target: IO[bytes], progress: Progress) -> str:
    """Write each record of `source` as it stands, with what the model says of it; return the file's SHA-256."""
    digest, read, first = hashlib.sha256(), 0, 1
    with source.open("rb") as file:
        found = records(read_lines(file, digest))
        header = next(found, None)
        if header is None:
            raise BadRows("the table is empty; expected a header and rows")
        names = next(csv.reader(io.StringIO(header.removeprefix(MARK).decode(errors="replace"))), [])
        own = own_columns(model)
        constant = "".join(f",{value}" for value in own.values()).encode()
        for some in chunks(found):
            body = b"".join(some)
            if not some[-1].endswith(b"\n"):
                body += b"\n"
            features = from_csv(header.rstrip(b"\r\n").removeprefix(MARK) + b"\n" + body, model.columns, first)
            if len(features) != len(some):
                raise BadRows(
                    f"rows {first} to {first + len(some) - 1} are {len(features)} rows for pandas; expected CSV"
                )
            said = model.predict(features)
            if first == 1:
                check_new(names, [*map(str, said), *own])
                target.write(header.rstrip(b"\r\n") + b"," + _line([*map(str, said), *own]) + b"\n")
            lines = records(io.BytesIO(said.to_csv(header=False, index=False, lineterminator="\n").encode()))
            target.writelines(
                b"%b,%b%b\n" % (record.rstrip(b"\r\n"), line.rstrip(b"\n"), constant)
                for record, line in zip(some, lines, strict=True)
            )
            first += len(some)
            read += len(body)
            progress.done(len(some), read)
    if first == 1:
        raise BadRows("the table has a header and no rows; expected some")
    return digest.hexdigest()


def _line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue().encode()


def predict_parquet(model: Model, source: Path, target: Path, progress: Progress) -> str:
    """Do the same with Parquet. Raise BadRows if the image has no library for it."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise BadRows(
            "the file is Parquet, and the scorer's image has no pyarrow for it; expected CSV, or pyarrow in the "
            "requirements.in of the scorer's folder ('make lock', 'make run')"
        ) from None
    try:
        file = pq.ParquetFile(source)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadRows(f"the file is no Parquet ({' '.join(str(error).split())[:100]}); expected a file of it") from None
    writer, own = None, own_columns(model)
    for batch in file.iter_batches(batch_size=ROWS):
        features = from_frame(batch.to_pandas(), model.columns, progress.rows + 1)
        said = model.predict(features)
        if writer is None:
            check_new(batch.schema.names, [*map(str, said), *own])
        table = pa.Table.from_batches([batch])
        for name, values in said.items():
            table = table.append_column(str(name), pa.array(values))
        for name, value in own.items():
            table = table.append_column(name, pa.array([value] * len(said)))
        writer = writer or pq.ParquetWriter(target, table.schema)
        writer.write_table(table)
        progress.done(len(said), 0)
    if writer is None:
        raise BadRows("the table has no rows; expected some")
    writer.close()
    with source.open("rb") as raw:
        return hashlib.file_digest(raw, "sha256").hexdigest()


def main(about: str, folder: str, source: str, target: str) -> None:
    path = Path(source)
    progress = Progress(path.stat().st_size)
    model = Model(json.loads(Path(about).read_text()), Path(folder))
    if path.suffix == ".parquet":
        digest = predict_parquet(model, path, Path(target), progress)
    else:
        with Path(target).open("wb", buffering=1 << 20) as file:
            digest = predict_csv(model, path, file, progress)
    print(json.dumps({"rows": progress.rows, "input_sha256": digest}))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (BadRows, Unusable) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"error: {Path(error.filename or 'the output').name}: {error.strerror}", file=sys.stderr)
        sys.exit(2)
