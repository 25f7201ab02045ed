"""Gets the raw data set and checks it: the bundled Iris, a URL with its SHA-256, or a file of the user's."""

import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urljoin, urlsplit

import pandas as pd
import pandera.pandas as pa
import requests
from pandera.errors import SchemaErrors
from pydantic import Field
from requests.adapters import HTTPAdapter
from sklearn.datasets import load_iris
from urllib3.util import Retry

import csv_table
from stagekit import Args, BadInput, log, run, sha256, writing

LENGTH = pa.Column(float, pa.Check.in_range(0, 100, include_min=False, error="a number of cm in (0, 100]"))
CLASSES = ["setosa", "versicolor", "virginica"]
SCHEMA = pa.DataFrameSchema(
    {
        "sepal_length": LENGTH,
        "sepal_width": LENGTH,
        "petal_length": LENGTH,
        "petal_width": LENGTH,
        "species": pa.Column(str, pa.Check.isin(CLASSES, error=f"one of {', '.join(CLASSES)}")),
    },
    strict=True,  # no column but these
)
"""The columns of the raw data: numbers as float, texts as str, nothing missing. The last one is the target; the other
stages take the last column for it."""

TEXT = pa.Column(str).dtype
RETRIES = Retry(total=3, backoff_factor=1, status_forcelist=[429, 500, 502, 503, 504], raise_on_status=False)
TIMEOUT = (10, 30)  # seconds to connect, seconds between two pieces
MEGABYTE = 1_000_000


class IngestArgs(Args):
    """`source` is `bundled`, an http(s) URL, or a path below data/external/; `external` is that file, mounted."""

    out: Path
    source: str
    sha256: Annotated[str, Field(pattern="^[0-9a-fA-F]{64}$")] | None = None
    external: Path | None = None


def bundled() -> pd.DataFrame:
    """Return the Iris data set that comes with scikit-learn: 150 rows."""
    iris = load_iris(as_frame=True)
    frame = iris.data.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))
    return frame.assign(species=iris.target_names[iris.target])


def setting(name: str, default: int, unit: str) -> int:
    """Return a whole number of the environment, 1 or more. Raise BadInput for anything else."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text) == 0:
        raise BadInput(f"{name} is {text!r}; expected whole {unit}, 1 or more: correct it in .env")
    return int(text)


@contextmanager
def in_time(what: str) -> Iterator[None]:
    """Raise BadInput in a block that takes longer than DOWNLOAD_TIMEOUT: TIMEOUT never ends a server that drips."""
    limit = setting("DOWNLOAD_TIMEOUT", 600, "seconds")

    def stop(*_: object) -> None:
        raise BadInput(f"{what} took longer than {limit} s; expected its end by then: raise DOWNLOAD_TIMEOUT in .env")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)


def nearness(url: str) -> int:
    """Return how near the host of `url` is: 0 a public address, 1 of a private network, 2 a link's, 3 this machine."""
    try:
        found = socket.getaddrinfo(urlsplit(url).hostname, None)
    except (OSError, UnicodeError):  # behind a proxy, which looks names up
        return 0
    return max(_nearness(ipaddress.ip_address(address[4][0].partition("%")[0])) for address in found)


def _nearness(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> int:
    if address.is_loopback or address.is_unspecified:
        return 3
    return 2 if address.is_link_local else int(not address.is_global)


def stay_outside(response: requests.Response, **_: object) -> None:
    """Raise BadInput for a redirect to a nearer server than the one that sends it: that is not for all to see."""
    if not response.is_redirect:
        return
    there = urljoin(response.url, response.headers["Location"])
    if nearness(there) > nearness(response.url):
        raise BadInput(
            f"ingest.source {response.url} leads to {there}, which is in a private network; expected a public server: "
            "if that file is meant, name its address in ingest.source"
        )


def download(url: str, path: Path) -> None:
    """Write what `url` serves to `path`. Raise BadInput if it cannot be downloaded whole, or is too large."""
    largest = setting("DOWNLOAD_MEGABYTES", 10_000, "megabytes")
    with in_time(f"the download of {url}"), requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=RETRIES))
        try:
            options = {"stream": True, "timeout": TIMEOUT, "hooks": {"response": stay_outside}}
            with session.get(url, **options) as response, path.open("wb") as file:
                response.raise_for_status()
                for piece in response.iter_content(1 << 20):
                    file.write(piece)
                    if file.tell() > largest * MEGABYTE:
                        raise BadInput(
                            f"ingest.source {url} is larger than {largest} MB, unpacked; expected at most that: raise "
                            "DOWNLOAD_MEGABYTES in .env"
                        )
        except requests.RequestException as error:
            if isinstance(error, requests.ConnectionError) and nearness(url) == 3:
                raise BadInput(
                    f"ingest.source is {url}, which inside a container is the container itself; expected a name that "
                    "containers reach: use this machine's name on the network, or a file below data/external/"
                ) from None
            raise BadInput(
                f"ingest.source {url} cannot be downloaded: {_why(error)}; expected a CSV file there: correct it or "
                "try later"
            ) from None


def _why(error: BaseException) -> str:
    """Return what is at the bottom of an error: what lies above names the libraries that passed it on."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return str(error)


def read_csv(path: Path, name: str) -> pd.DataFrame:
    """Return the CSV file at `path`, called `name` in messages. Raise BadInput if a number in it is none."""
    largest = setting("DOWNLOAD_MEGABYTES", 10_000, "megabytes") * MEGABYTE
    texts = [column for column, rule in SCHEMA.columns.items() if rule.dtype == TEXT]
    numbers = [column for column in SCHEMA.columns if column not in texts]
    return csv_table.read(path, name, numbers=numbers, texts=texts, largest=largest)


def validated(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return `frame` with the columns of SCHEMA, in their order. Raise BadInput for the first wrong column or value."""
    if {*frame} != {*SCHEMA.columns}:
        raise BadInput(
            f"{name} has the columns {', '.join(frame)}; expected {', '.join(SCHEMA.columns)}, as SCHEMA says: correct "
            "ingest.source in params.yaml, or SCHEMA in ingest.py"
        )
    if frame.empty:
        raise BadInput(f"{name} has no rows; expected at least one: correct the file")
    try:
        frame = SCHEMA.validate(frame, lazy=True)
    except SchemaErrors as errors:
        raise BadInput(f"{name}: {_first_fault(errors.failure_cases)}: correct the file") from None
    frame = frame[list(SCHEMA.columns)]
    target = frame.iloc[:, -1]
    if target.nunique() < 2:
        raise BadInput(f"{name} has one class, {target.iloc[0]}; expected at least two: correct the file")
    return frame


def _first_fault(cases: pd.DataFrame) -> str:
    case = cases.iloc[0]
    found = case["failure_case"]
    if pd.isna(case["index"]):  # of the whole column
        return f"column {case['column']} is {found}; SCHEMA wants {case['check']}; expected float or str there"
    found = csv_table.shown(found.item() if hasattr(found, "item") else found)
    return f"column {case['column']} in data row {int(case['index']) + 1} holds {found}; expected {case['check']}"


def check_digest(path: Path, expected: str | None, name: str) -> None:
    """Raise BadInput if `expected` is given and is not the file's SHA-256."""
    if expected and (found := sha256(path)) != expected.lower():
        raise BadInput(
            f"{name} has the SHA-256 {found}; expected {expected}: if the new file is right, "
            "set ingest.sha256 in params.yaml"
        )


def main(args: IngestArgs) -> None:
    with writing(args.out) as part:
        if args.source == "bundled":
            if args.sha256:
                raise BadInput("ingest.sha256 is set, but ingest.source is bundled; expected null with it: correct it")
            frame = bundled()
        elif args.source.startswith(("http://", "https://")):
            if not args.sha256:
                raise BadInput("ingest.sha256 is null; expected the SHA-256 of ingest.source's file: set it")
            download(args.source, part)
            check_digest(part, args.sha256, args.source)
            frame = read_csv(part, args.source)
        elif args.external:
            if not args.external.is_file():
                raise BadInput(
                    f"ingest.source {args.source} is a folder; expected a CSV file: correct it in params.yaml"
                )
            check_digest(args.external, args.sha256, args.source)
            frame = read_csv(args.external, args.source)
        else:
            raise BadInput(
                f"ingest.source is {args.source!r}; expected bundled, an http(s) URL or a path below data/external/: "
                "correct it in params.yaml"
            )
        frame = validated(frame, args.source)
        frame.to_csv(part, index=False, lineterminator="\n")
    log.info("%d rows of %s -> %s", len(frame), args.source, args.out)


if __name__ == "__main__":
    run(main, IngestArgs)
