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
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import IO, Any

import pandas as pd

from .model import Model, Unusable
from .rows import BadRows, from_csv, from_frame

ROWS, BYTES = 50_000, 4 << 20
"""Of a chunk: whichever it has first."""
LONGEST = 64 << 20  # bytes of a record
NOTES = 5  # seconds between two lines about how far it is
MARK = b"\xef\xbb\xbf"  # at the beginning of a file that Windows wrote


def blocks(file: IO[bytes], digest: Any) -> Iterator[bytes]:
    """Yield a file in pieces of some BYTES that end where a line does, and let `digest` have all of it."""
    while block := file.read(BYTES):
        block += file.readline(LONGEST)
        digest.update(block)
        yield block


def records(found: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield the records in pieces of a CSV file, without their line ends; a quoted cell may hold some. Raise BadRows.

    Empty lines are passed over, as pandas does.
    """
    whole = b""
    for block in found:
        if not whole and b'"' not in block:
            yield [*filter(None, block.replace(b"\r\n", b"\n").split(b"\n"))]
            continue
        some = []
        for line in io.BytesIO(block):
            whole += line
            if whole.count(b'"') % 2 == 0:
                some.append(whole.rstrip(b"\r\n"))
                whole = b""
            elif len(whole) > LONGEST:
                raise BadRows(f"a quotation mark has no second one within {LONGEST >> 20} MB; expected CSV")
        yield [*filter(None, some)]
    if whole:
        raise BadRows("the last quotation mark has no second one; expected CSV")


def written(said: pd.DataFrame, own: dict[str, Any]) -> list[bytes]:
    """Return the records that pandas writes of a table and of some constant columns. (pandas takes twice as long.)"""
    text = io.StringIO()
    columns = [said.iloc[:, at] for at in range(said.shape[1])]
    if all(map(_is_plain, columns)):
        cells = (*(values.tolist() for values in columns), *map(repeat, own.values()))
        csv.writer(text, lineterminator="\n").writerows(zip(*cells, strict=False))
    else:
        said.assign(**own).to_csv(text, header=False, index=False, lineterminator="\n")
    return next(records([text.getvalue().encode()]))


def _is_plain(values: pd.Series) -> bool:
    """Return whether csv writes the values of a column as pandas does: no gaps, and Python's own types."""
    if values.isna().any():
        return False
    return values.dtype == "float64" or values.dtype.kind in "iub" or pd.api.types.infer_dtype(values) == "string"


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
    digest, header, read, first = hashlib.sha256(), None, 0, 1
    own = own_columns(model)

    def write(some: list[bytes], said: pd.DataFrame) -> None:
        target.write(b"\n".join(map(b",".join, zip(some, written(said, own), strict=True))) + b"\n")

    with source.open("rb") as file, ThreadPoolExecutor(1) as writer:
        done = writer.submit(int)
        for found in records(blocks(file, digest)):
            if header is None and found:
                header, found = found[0], found[1:]
            for some in (found[at : at + ROWS] for at in range(0, len(found), ROWS)):
                body = b"\n".join(some)
                features = from_csv(b"%b\n%b\n" % (header.removeprefix(MARK), body), model.columns, first)
                if len(features) != len(some):
                    raise BadRows(
                        f"rows {first} to {first + len(some) - 1} are {len(features)} rows for pandas; expected CSV"
                    )
                said = model.predict(features)
                if first == 1:
                    new = [*map(str, said), *own]
                    check_new(next(csv.reader([header.removeprefix(MARK).decode(errors="replace")])), new)
                    target.write(header + b"," + _line(new) + b"\n")
                done.result()  # one chunk is written while the next one is read and predicted
                done = writer.submit(write, some, said)
                first += len(some)
                read += len(body)
                progress.done(len(some), read)
        done.result()
    if header is None:
        raise BadRows("the table is empty; expected a header and rows")
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
