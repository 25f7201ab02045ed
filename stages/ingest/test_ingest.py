import gzip
import hashlib
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pandera.pandas as pa
import pytest
import requests
from pydantic import ValidationError

import ingest
from stagekit import BadInput

COLUMNS = "sepal_length,sepal_width,petal_length,petal_width,species"
GOOD = f"{COLUMNS}\n5.1,3.5,1.4,0.2,setosa\n6.0,3.0,4.0,1.0,versicolor\n"
NUMBER, LENGTH, SPECIES = "a number, such as 5.1", "a number of cm in (0, 100]", "one of setosa, versicolor, virginica"
CM = pa.Column(float, pa.Check.in_range(0, 100, include_min=False, error=LENGTH))
KINDS = pa.Column(str, pa.Check.isin(["setosa", "versicolor", "virginica"], error=SPECIES))
FLOWERS = {name: KINDS if name == "species" else CM for name in COLUMNS.split(",")}


@pytest.fixture(autouse=True)
def flowers(monkeypatch):
    """These tests bring their columns, and so hold for any SCHEMA."""
    monkeypatch.setattr(ingest, "SCHEMA", pa.DataFrameSchema(FLOWERS, strict=True))


@pytest.fixture
def out(tmp_path):
    """Where the stage writes: a path in a folder of its own."""
    return tmp_path / "raw" / "iris.csv"


def of_file(tmp_path, out, content: str | bytes, **options) -> None:
    """Ingests a file of the user's with that content."""
    path = tmp_path / "flowers.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    ingest.main(ingest.IngestArgs(out=out, source="data/external/flowers.csv", external=path, **options))


def refusal(out, act, *arguments, **options) -> str:
    """The one line with which `act` refuses its input, leaving nothing behind."""
    with pytest.raises(BadInput) as error:
        act(*arguments, **options)
    assert not out.parent.exists() or list(out.parent.iterdir()) == []
    assert "\n" not in str(error.value)
    return str(error.value)


def digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


# --- bundled


def test_bundled_is_the_iris_data_set(out):
    """The bundled source gives Fisher's 150 flowers, 50 a class, in the columns that the other stages know."""
    ingest.main(ingest.IngestArgs(out=out, source="bundled"))
    frame = pd.read_csv(out)
    assert ",".join(frame.columns) == COLUMNS
    assert frame["species"].value_counts().to_dict() == {"setosa": 50, "versicolor": 50, "virginica": 50}
    assert frame.iloc[0].tolist() == [5.1, 3.5, 1.4, 0.2, "setosa"]
    assert frame.drop(columns="species").sum().round(1).tolist() == [876.5, 458.6, 563.7, 179.9]


def test_bundled_flowers_are_no_other_data(out, monkeypatch):
    """Where SCHEMA has other columns, the bundled source is refused: both are named, and where each is corrected."""
    monkeypatch.setattr(ingest, "SCHEMA", pa.DataFrameSchema({"months": pa.Column(float), "left": pa.Column(str)}))
    said = refusal(out, ingest.main, ingest.IngestArgs(out=out, source="bundled"))
    assert said == (
        f"bundled has the columns {COLUMNS.replace(',', ', ')}; expected months, left, as SCHEMA says: correct "
        "ingest.source in params.yaml, or SCHEMA in ingest.py"
    )


def test_bundled_twice_is_the_same_file(tmp_path):
    """The stage writes the same bytes each time, and nothing but its output."""
    for name in ("one", "two"):
        ingest.main(ingest.IngestArgs(out=tmp_path / name, source="bundled"))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


# --- a file of the user's


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(GOOD, id="as it is"),
        pytest.param(b"\xef\xbb\xbf" + GOOD.encode(), id="BOM"),
        pytest.param(GOOD.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode(), id="BOM and CRLF"),
        pytest.param(GOOD.rstrip("\n"), id="no newline at the end"),
        pytest.param(GOOD.replace("6.0,3.0,4.0,1.0", "6,3,4,1"), id="whole numbers"),
        pytest.param(
            "species,petal_width,petal_length,sepal_width,sepal_length\nsetosa,0.2,1.4,3.5,5.1\n"
            "versicolor,1.0,4.0,3.0,6.0\n",
            id="columns in another order",
        ),
        pytest.param(GOOD.replace(",", ", "), id="blanks after commas"),
        pytest.param(GOOD.replace("\n", "\n1,").removesuffix("1,").replace("sepal", ",sepal", 1), id="an index"),
        pytest.param("sep=;\r\n" + GOOD.replace(",", ";").replace(".", ",").replace("\n", "\r\n"), id="Excel, German"),
        pytest.param(GOOD.replace(",", "\t").encode("utf-16"), id="Excel, Unicode text"),
        pytest.param(gzip.compress(GOOD.encode()), id="gzip"),
    ],
)
def test_the_same_table_gives_the_same_file(tmp_path, out, content):
    """However a good table is written down, the output is one and the same normalized file."""
    of_file(tmp_path, out, content)
    assert out.read_bytes() == GOOD.encode()


@pytest.mark.parametrize(
    ("content", "what", "found", "expected"),
    [
        pytest.param("", "is empty", "", "a header line", id="empty file"),
        pytest.param(f"{COLUMNS}\n", "no rows", "", "at least one", id="no rows"),
        pytest.param(
            "5.1;3.5;1.4\n1;2;3\n", "begins with", "'5.1;3.5;1.4'", COLUMNS.replace(",", ", "), id="no header"
        ),
        pytest.param(
            GOOD.replace(",petal_width", ""), "column petal_width", "missing", "", id="a name less than cells"
        ),
        pytest.param(
            "sepal_length,sepal_width,petal_length,species\n1,2,3,setosa\n1,2,3,virginica\n",
            "column petal_width",
            "missing",
            COLUMNS.replace(",", ", "),
            id="missing column",
        ),
        pytest.param(
            f"{COLUMNS},colour\n1,2,3,4,setosa,red\n1,2,3,4,virginica,red\n",
            "column 6",
            "'colour'",
            COLUMNS.replace(",", ", "),
            id="extra column",
        ),
        pytest.param(f"{COLUMNS}\n1,2,3,4,setosa\n5,6,7,8,virginica,red\n", "row 2", "6 cells", "5", id="a cell more"),
        pytest.param(f"{COLUMNS}\n1,1,2,3,4,setosa\n2,5,6,7,8,virginica\n", "row 1", "6 cells", "5", id="no name"),
        pytest.param(GOOD.replace("6.0", "long"), "sepal_length in data row 2", "'long'", NUMBER, id="text"),
        pytest.param(GOOD.replace("1.0,v", ",v"), "petal_width in data row 2", "''", NUMBER, id="no number"),
        pytest.param(GOOD.replace("6.0,", "NaN,"), "sepal_length in data row 2", "'NaN'", NUMBER, id="NaN"),
        pytest.param(GOOD.replace("3.0,", "0,"), "sepal_width in data row 2", "0", LENGTH, id="zero"),
        pytest.param(GOOD.replace("3.0,", "-3,"), "sepal_width in data row 2", "-3", LENGTH, id="negative"),
        pytest.param(GOOD.replace("4.0,", "400,"), "petal_length in data row 2", "400", LENGTH, id="too long"),
        pytest.param(GOOD.replace("4.0,", "inf,"), "petal_length in data row 2", "'inf'", NUMBER, id="infinite"),
        pytest.param(GOOD.replace("6.0,", "5_1,"), "sepal_length in data row 2", "'5_1'", NUMBER, id="an underscore"),
        pytest.param(
            GOOD.replace("6.0,", "\uff15.1,"), "sepal_length in data row 2", "'\uff15.1'", NUMBER, id="wide digit"
        ),
        pytest.param(
            GOOD.replace("6.0,", "5.1\xa0,"), "sepal_length in data row 2", r"'5.1\xa0'", NUMBER, id="hard blank"
        ),
        pytest.param(GOOD.replace("versicolor", "rose"), "species in data row 2", "'rose'", SPECIES, id="other class"),
        pytest.param(GOOD.replace("versicolor", ""), "species in data row 2", "''", SPECIES, id="no class"),
        pytest.param(GOOD.replace("versicolor", "setosa"), "one class", "setosa", "at least two", id="one class"),
        pytest.param(GOOD.replace("set", "s\u00e9t").encode("latin-1"), "UTF-8", "byte 75", "UTF-8", id="latin-1"),
        pytest.param(b"\x89PNG\r\n\x1a\n\0\0", "UTF-8", "byte 0", "UTF-8", id="no text"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, out, content, what, found, expected):
    """A bad file is refused in one line that names the file, what is wrong, what was found and what was expected."""
    said = refusal(out, of_file, tmp_path, out, content)
    assert said.startswith("data/external/flowers.csv")
    assert "expected" in said
    for part in (what, found, expected):
        assert part in said


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.Column(float, [pa.Check.gt(0, error="above 0"), pa.Check.lt(6, error="below 6")]), "6.0; expected below 6"),
        (pa.Column(float, pa.Check.lt(6)), "6.0; expected less_than(6)"),
        (pa.Column(float, unique=True), None),
        (pa.Column(int), "column sepal_length is float64; SCHEMA wants dtype('int64'); expected float or str there"),
    ],
    ids=["the second check", "a check without words", "no check", "a type that no table is read as"],
)
def test_any_rule_of_a_column_is_told(tmp_path, out, monkeypatch, column, said):
    """A column may have several rules, or none: the one that a value breaks is told."""
    monkeypatch.setattr(ingest, "SCHEMA", pa.DataFrameSchema(FLOWERS | {"sepal_length": column}, strict=True))
    if said:
        assert said in refusal(out, of_file, tmp_path, out, GOOD)
    else:
        of_file(tmp_path, out, GOOD)
        assert out.read_text() == GOOD


@pytest.mark.parametrize("cell", ["0", "-3", "400", "1e-400", "1e300"])
def test_a_bad_number_is_told_as_a_number(tmp_path, out, cell):
    """The message shows the value as a user would write it, not as Python's numbers are called."""
    assert "np.float64" not in refusal(out, of_file, tmp_path, out, GOOD.replace("6.0", cell))


def test_the_digest_of_a_file_is_checked(tmp_path, out):
    """A file with the SHA-256 that was given is taken; any other is refused, with the digest that it has."""
    of_file(tmp_path, out, GOOD, sha256=digest(GOOD))
    assert out.read_text() == GOOD
    out.unlink()
    said = refusal(out, of_file, tmp_path, out, GOOD, sha256="0" * 64)
    assert digest(GOOD) in said and "0" * 64 in said


def test_a_bad_file_leaves_the_old_output(tmp_path, out):
    """A file that is refused leaves what an earlier run wrote."""
    of_file(tmp_path, out, GOOD)
    with pytest.raises(BadInput):
        of_file(tmp_path, out, "")
    assert out.read_text() == GOOD
    assert list(out.parent.iterdir()) == [out]


# --- a URL


@pytest.fixture
def server(monkeypatch):
    """A web server: `pages` maps a path to its answers, (status, body, announced length), the last one for ever."""
    pages: dict[str, list[tuple[int, bytes, int]]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = pages.get(self.path, [(404, b"", 0)])
            status, body, length = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(ingest, "RETRIES", ingest.RETRIES.new(backoff_factor=0))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        httpd.pages = pages
        httpd.url = f"http://127.0.0.1:{httpd.server_port}"
        yield httpd
        httpd.shutdown()


def whole(text: str, status: int = 200) -> tuple[int, bytes, int]:
    return status, text.encode(), len(text)


def of_url(out, url: str, sha256: str | None = digest(GOOD)) -> None:
    ingest.main(ingest.IngestArgs(out=out, source=url, sha256=sha256))


def test_a_url_is_downloaded(server, out):
    """The file that a URL serves, with the digest that was given, becomes the output, and nothing else stays."""
    server.pages["/iris.csv"] = [whole(GOOD)]
    of_url(out, f"{server.url}/iris.csv")
    assert out.read_text() == GOOD
    assert list(out.parent.iterdir()) == [out]


def test_a_server_that_stumbles_is_asked_again(server, out):
    """Answers that say that the server is busy are followed by another try."""
    server.pages["/iris.csv"] = [whole("", 503), whole("", 429), whole(GOOD)]
    of_url(out, f"{server.url}/iris.csv")
    assert out.read_text() == GOOD


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(whole("gone", 404), "404", id="404"),
        pytest.param(whole("busy", 503), "503", id="503 for ever"),
        pytest.param((200, GOOD.encode(), len(GOOD) + 1), "cannot be downloaded", id="cut off"),
        pytest.param((200, b"", len(GOOD)), "cannot be downloaded", id="cut off before the first byte"),
        pytest.param(whole(GOOD + "\n"), digest(GOOD + "\n"), id="another file"),
        pytest.param(whole(""), digest(""), id="empty file"),
    ],
)
def test_a_download_that_fails_is_refused(server, out, answer, told):
    """A file that is not there, not whole or not the one that was meant is refused with the URL, and nothing stays."""
    server.pages["/iris.csv"] = [answer]
    said = refusal(out, of_url, out, f"{server.url}/iris.csv")
    assert f"{server.url}/iris.csv" in said and told in said and "expected" in said


def test_a_bad_table_at_the_right_url_is_refused(server, out):
    """A table with the right digest is checked as any other is."""
    server.pages["/iris.csv"] = [whole(f"{COLUMNS}\n")]
    assert "no rows" in refusal(out, of_url, out, f"{server.url}/iris.csv", digest(f"{COLUMNS}\n"))


def away(host: str) -> str:
    """An address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"http://{host}:{free.getsockname()[1]}/iris.csv"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "0.0.0.0"])
def test_an_address_of_the_container_itself_is_explained(server, out, monkeypatch, host):
    """A server on the user's own machine is not there for a container: the refusal says so, and what is."""
    monkeypatch.setenv("no_proxy", host)
    said = refusal(out, of_url, out, url := away(host))
    assert f"ingest.source is {url}, which inside a container is the container itself; expected a name that" in said


def test_a_server_that_is_away_is_refused(server, out, monkeypatch):
    """A port at which nobody listens, and a name that nobody has, are bad input, with the system's reason alone."""
    monkeypatch.setattr(ingest, "nearness", lambda url: 0)
    said = refusal(out, of_url, out, url := away("127.0.0.1"))
    assert (
        f"ingest.source {url} cannot be downloaded: [Errno 111] Connection refused; expected a CSV file there" in said
    )
    monkeypatch.setenv("no_proxy", "nowhere.invalid")
    said = refusal(out, of_url, out, "http://nowhere.invalid/iris.csv")
    assert "cannot be downloaded: [Errno" in said and "Pool" not in said


def test_a_download_that_is_too_large_is_refused(server, out, monkeypatch):
    """What a server packs small and is large unpacked is stopped at DOWNLOAD_MEGABYTES."""
    monkeypatch.setenv("DOWNLOAD_MEGABYTES", "1")
    server.pages["/iris.csv"] = [whole("5.1,3.5,1.4,0.2,setosa\n" * 100_000)]
    said = refusal(out, of_url, out, f"{server.url}/iris.csv")
    assert "is larger than 1 MB, unpacked; expected at most that: raise DOWNLOAD_MEGABYTES in .env" in said


ADDRESSES = {"public.test": "93.184.215.14", "private.test": "10.0.0.1", "link.test": "169.254.169.254"}
"""What names are looked up as: nothing is sent there."""


@pytest.mark.parametrize(
    ("here", "there", "stays"),
    [
        ("public.test", "public.test", True),
        ("public.test", "private.test", False),
        ("public.test", "link.test", False),
        ("public.test", "127.0.0.1", False),
        ("public.test", "[::1]", False),
        ("private.test", "private.test", True),
        ("private.test", "public.test", True),
        ("private.test", "link.test", False),
        ("private.test", "localhost", False),
        ("private.test", "0.0.0.0", False),
        ("link.test", "127.0.0.1", False),
        ("link.test", "[::ffff:127.0.0.1]", False),
        ("nowhere.test", "nowhere.test", True),
    ],
)
def test_a_redirect_leads_no_nearer(monkeypatch, here, there, stays):
    """A public server may not send the download into a private network, and none to this machine."""
    look_up = socket.getaddrinfo

    def known(host, port, *rest, **options):
        if host == "nowhere.test":
            raise socket.gaierror
        return look_up(ADDRESSES.get(host, host), port, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", known)
    response = requests.Response()
    response.status_code, response.url = 302, f"http://{here}/x.csv"
    response.headers["Location"] = f"http://{there}/y.csv"
    if stays:
        ingest.stay_outside(response)
    else:
        with pytest.raises(BadInput, match="which is in a private network; expected a public server"):
            ingest.stay_outside(response)


def test_a_url_without_a_digest_is_refused(server, out):
    """A URL must come with a SHA-256: nothing is downloaded without."""
    server.pages["/iris.csv"] = [whole(GOOD)]
    assert "ingest.sha256" in refusal(out, of_url, out, f"{server.url}/iris.csv", sha256=None)


# --- arguments


@pytest.mark.parametrize("source", ["", "iris", "ftp://127.0.0.1/iris.csv", "/etc/passwd"])
def test_another_source_is_refused(out, source):
    """What is neither bundled nor a URL nor a file that was mounted is refused with the choices there are."""
    said = refusal(out, of_url, out, source)
    assert repr(source) in said and "bundled" in said and "data/external/" in said


@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 65, "g" * 64])
def test_what_is_no_digest_is_refused(out, sha256):
    """A SHA-256 has 64 hex digits."""
    with pytest.raises(ValidationError, match="sha256"):
        ingest.IngestArgs(out=out, source="bundled", sha256=sha256)
