"""Bad input on the real engine: each mistake ends in one sentence, and correcting it is all there is to do."""

import hashlib
import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import NOTHING, Clone, Make, last_line, stages_line, wait_until

pytestmark = pytest.mark.docker

RAW, PROCESSED = "data/raw/iris.csv", "data/processed"
MINE = "data/external/mine.csv"
COLUMNS = "sepal_length, sepal_width, petal_length, petal_width, species"
LOG = "see above or .local/logs/run.log"
DAMAGED = (
    "error: dvc.lock is damaged, or a merge left it with conflicts; expected what a run wrote: take one side, or "
    "delete it, and run again"
)
SERVER = """
import http.server, os, pathlib, time

BODY = os.environ["BODY"].encode()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/404.csv":
            return self.send_error(404)
        while self.path == "/held.csv" and not pathlib.Path("/tmp/release").exists():
            time.sleep(0.1)
        self.send_response(200)
        longer = {"/cut.csv": 9, "/drip.csv": 999_999}.get(self.path, 0)
        self.send_header("Content-Length", str(len(BODY) + longer))
        self.end_headers()
        self.wfile.write(BODY)
        while self.path == "/drip.csv":
            time.sleep(0.2)
            self.wfile.write(b"x")

server = http.server.ThreadingHTTPServer(("", 8000), Handler)
print("listening", flush=True)
server.serve_forever()
"""


@dataclass(frozen=True)
class Bench:
    """A clone in which all is well, what makes it so, and a server of our own that ingest can reach."""

    clone: Clone
    server: str  # its container
    url: str  # http://<address>:8000
    good: dict[str, bytes]  # the outputs of the first run
    dotenv: bytes

    def outputs(self) -> dict[str, bytes]:
        """Return the files that the stages made, those half written included."""
        folders = [self.clone.path / name for name in ("data", "models", "metrics")]
        files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        return {str(path.relative_to(self.clone.path)): path.read_bytes() for path in sorted(files)}

    def correct(self) -> None:
        """Take every mistake of this module back. What a failed run did to the outputs stays."""
        self.clone.restore()
        shutil.rmtree(self.clone.path / "data/external", ignore_errors=True)
        (self.clone.path / ".env").write_bytes(self.dotenv)
        (self.clone.path / PROCESSED).chmod(0o755)

    def refused(self, done: Make, sentence: str | re.Pattern[str]) -> None:
        """Check that `done` failed, and that its last words are the sentence."""
        assert done.returncode != 0, done.stdout
        assert "Traceback" not in done.stdout
        if isinstance(sentence, str):
            assert last_line(done) == sentence
        else:
            assert sentence.fullmatch(last_line(done)), f"{last_line(done)!r} is not like {sentence.pattern!r}"

    def is_as_before(self) -> None:
        """Check that nothing differs from what the first run left."""
        assert self.outputs() == self.good
        assert self.clone.git("status", "--porcelain") == ""

    def recovers(self, target: str) -> None:
        """Check that the next run gives the right outputs once the mistake is corrected."""
        self.correct()
        self.clone.make(target)
        self.is_as_before()


@pytest.fixture(scope="module")
def bench(clone_at: Callable[[str], Clone]) -> Iterator[Bench]:
    """Return the one clone of this module after a first run, with a server beside it."""
    clone = clone_at("bad input")
    clone.make("run")
    clone.git("add", "dvc.lock")
    clone.git("commit", "--quiet", "--message", "a run")
    body = (clone.path / RAW).read_text()
    command = ["docker", "run", "--rm", "--detach", "--init", "--label", clone.label, "--env", "BODY"]
    command += [os.environ["RUNNER_IMAGE"], "python", "-c", SERVER]
    server = subprocess.check_output(command, env=os.environ | {"BODY": body}, text=True).strip()
    try:
        wait_until(lambda: b"listening" in subprocess.check_output(["docker", "logs", server]), "the server listens")
        address = "{{.NetworkSettings.Networks.bridge.IPAddress}}"
        found = subprocess.check_output(["docker", "inspect", "--format", address, server], text=True).strip()
        made = Bench(clone, server, f"http://{found}:8000", {}, (clone.path / ".env").read_bytes())
        made.good.update(made.outputs())
        yield made
    finally:
        subprocess.run(["docker", "kill", server], stdout=subprocess.DEVNULL)


# --- mistakes

Mistake = Callable[[Bench], None]


def edit(name: str, old: str, new: str) -> Mistake:
    return lambda bench: bench.clone.edit(name, old, new)


def params(old: str, new: str) -> Mistake:
    return edit("params.yaml", old, new)


def template(old: str, new: str) -> Mistake:
    return edit("dvc.yaml.template", old, new)


def content(name: str, change: Callable[[bytes], bytes]) -> Mistake:
    def spoil(bench: Bench) -> None:
        path = bench.clone.path / name
        path.write_bytes(change(path.read_bytes()))

    return spoil


def dotenv(line: str) -> Mistake:
    return content(".env", lambda data: data + line.encode("latin-1") + b"\n")


def removed(name: str) -> Mistake:
    return lambda bench: (bench.clone.path / name).unlink()


def nothing(bench: Bench) -> None:
    pass


def external(change: Callable[[bytes], bytes] | None, sha256: str = "null") -> Mistake:
    """Let params.yaml name a file of the user's: iris.csv as `change` makes it; None: there is no such file."""

    def spoil(bench: Bench) -> None:
        bench.clone.edit("params.yaml", "source: bundled", f"source: {MINE}")
        bench.clone.edit("params.yaml", "sha256: null", f"sha256: {sha256}")
        if change:
            (bench.clone.path / MINE).parent.mkdir()
            (bench.clone.path / MINE).write_bytes(change(bench.good[RAW]))

    return spoil


def url(name: str, *, port: int = 8000, sha256: str | None = None) -> Mistake:
    """Let params.yaml name a URL of the server, with the SHA-256 of iris.csv or another one."""

    def spoil(bench: Bench) -> None:
        digest = hashlib.sha256(bench.good[RAW]).hexdigest() if sha256 is None else sha256
        address = bench.url.replace("8000", str(port))
        bench.clone.edit("params.yaml", "source: bundled", f"source: {address}/{name}")
        bench.clone.edit("params.yaml", "sha256: null", f"sha256: {digest}")

    return spoil


def anew(bench: Bench) -> None:
    """Make preprocess run: its outputs are gone, and no cache has those of its new seed."""
    bench.clone.edit("params.yaml", "seed: 3 ", "seed: 5 ")
    for path in (bench.clone.path / PROCESSED).iterdir():
        path.unlink()


def undeclared(bench: Bench) -> None:
    """Let preprocess read a file that its block does not name."""
    main = "def main(args: PreprocessArgs) -> None:\n"
    bench.clone.edit("stages/preprocess/preprocess.py", main, f"{main}    open('data/raw/more.csv')\n")


def unwritable(bench: Bench) -> None:
    anew(bench)
    (bench.clone.path / PROCESSED).chmod(0o555)


@dataclass(frozen=True)
class Case:
    """A mistake, the target of make that meets it, and its last line (a pattern if addresses or ids vary)."""

    id: str
    spoil: Mistake
    target: str
    sentence: str | re.Pattern[str]
    shell: dict[str, str] = field(default_factory=dict)
    in_a_stage: bool = False


def in_a_stage(id: str, spoil: Mistake, target: str, sentence: str | re.Pattern[str], **shell: str) -> Case:
    """Return a case that no check before the stage meets: DVC has deleted the outputs when the stage fails."""
    return Case(id, spoil, target, sentence, shell, in_a_stage=True)


def of_mine(says: str) -> str:
    return f"error: ingest: {MINE}{says}: correct the file"


CASES = [
    Case(
        "engine: none where make may start none", nothing, "setup-dvc",
        "error: no Docker engine answers at DOCKER_HOST=unix:///nowhere; expected one: start it, or unset DOCKER_HOST",
        {"DOCKER_HOST": "unix:///nowhere"},
    ),
    # --- params.yaml
    Case(
        "params: missing", removed("params.yaml"), "run-ingest",
        "error: params.yaml cannot be read (No such file or directory); expected a text beside the Makefile: correct "
        "it, or take the committed one with 'git checkout params.yaml'",
    ),
    Case(
        "params: not YAML", params("source: bundled", "source: [bundled"), "setup-dvc",
        re.compile(r"error: params\.yaml is no YAML \(line \d+: .+\); correct it"),
    ),
    Case(
        "params: not UTF-8", content("params.yaml", lambda data: b"# caf\xe9\n" + data), "setup-dvc",
        "error: params.yaml cannot be read (it is not UTF-8: byte 5); expected a text beside the Makefile: correct it, "
        "or take the committed one with 'git checkout params.yaml'",
    ),
    Case(
        "params: empty", content("params.yaml", lambda data: b""), "setup-dvc",
        "error: params.yaml is empty; expected sections of 'key: value': correct it",
    ),
    Case(
        "params: cut off", content("params.yaml", lambda data: data.rstrip()), "setup-dvc",
        "error: params.yaml ends within a line; expected a line break after the last one: complete that line",
    ),
    Case(
        "params: a key twice", params("sha256: null", "sha256: null\n  source: bundled"), "setup-dvc",
        re.compile(r"error: params\.yaml is no YAML \(line \d+: found duplicate key \"source\".*\); correct it"),
    ),
    Case(
        "params: unknown section", params("evaluate:\n", "evalute:\n"), "setup-dvc",
        "error: params.yaml has the section evalute, which nothing reads; expected ingest, preprocess, train, "
        "evaluate, mlflow, promotion: correct it",
    ),
    Case(
        "params: null as a section", params("evaluate:\n", "evaluate: null\nother:\n"), "setup-dvc",
        "error: params.yaml: the section evaluate is empty; expected 'key: value' below it: correct it",
    ),
    Case(
        "params: a section that the template needs is missing", params("ingest:\n", "other:\n"), "setup-dvc",
        re.compile(
            r"error: dvc\.yaml\.template, line \d+: params\.yaml has no attribute 'ingest'; expected names of "
            r"params\.yaml and of the template as the comment at its top has them: correct that line"
        ),
    ),
    in_a_stage(
        "params: unknown key", params("test_size:", "test_share:"), "run-preprocess",
        "error: preprocess: preprocess.test_share is no parameter; expected one of test_size, seed: correct it in "
        "params.yaml",
    ),
    in_a_stage(
        "params: wrong type", params("test_size: 0.2", "test_size: a lot"), "run-preprocess",
        "error: preprocess: preprocess.test_size is 'a lot'; expected a valid number, unable to parse string as a "
        "number: correct it in params.yaml",
    ),
    in_a_stage(
        "params: out of range", params("test_size: 0.2", "test_size: 1.5"), "run-preprocess",
        "error: preprocess: preprocess.test_size is '1.5'; expected less than 1: correct it in params.yaml",
    ),
    in_a_stage(
        "params: null", params("test_size: 0.2", "test_size: null"), "run-preprocess",
        "error: preprocess: preprocess.test_size is None; expected a valid number: correct it in params.yaml",
    ),
    in_a_stage(
        "params: a section in a section", params("test_size: 0.2", "test_size:\n    share: 0.2"), "run-preprocess",
        "error: preprocess: preprocess.test_size.share is no parameter; expected one of test_size, seed: correct it in "
        "params.yaml",
    ),
    Case(
        "registry: model", params("model: iris-classifier", "model: iris/classifier"), "run-ingest",
        re.compile(
            r"error: dvc\.yaml\.template, line \d+: model 'iris/classifier': its name has other characters; expected "
            r"letters, digits, - and _: correct it"
        ),
    ),
    Case(
        "registry: min_improvement out of range", params("improvement: 0.0", "improvement: -1"), "run-ingest",
        re.compile(
            r"error: dvc\.yaml\.template, line \d+: promotion\.min_improvement is -1; expected a number of 0 or "
            r"more: correct it in params\.yaml"
        ),
    ),
    Case(
        "registry: min_improvement no number", params("improvement: 0.0", "improvement: some"), "run-ingest",
        re.compile(
            r"error: dvc\.yaml\.template, line \d+: promotion\.min_improvement is 'some'; expected a number: "
            r"correct it in params\.yaml"
        ),
    ),
    # --- dvc.yaml.template
    Case(
        "template: missing", removed("dvc.yaml.template"), "setup-dvc",
        "error: dvc.yaml.template cannot be read (No such file or directory); expected a text beside the Makefile: "
        "correct it, or take the committed one with 'git checkout dvc.yaml.template'",
    ),
    Case(
        "template: unknown name", template('inputs={"raw": "data/raw/iris.csv"}', 'inputs={"raw": raw}'), "setup-dvc",
        re.compile(
            r"error: dvc\.yaml\.template, line \d+: 'raw' is undefined; expected names of params\.yaml and of the "
            r"template as the comment at its top has them: correct that line"
        ),
    ),
    Case(
        "template: unknown argument", template('outputs={"rows"', 'outptus={"rows"'), "setup-dvc",
        re.compile(
            r"error: dvc\.yaml\.template, line \d+: .*unexpected keyword argument 'outptus'.*; expected a call as the "
            r"comment at its top has them: correct that line"
        ),
    ),
    Case(
        "template: syntax", template('importance.csv"}) }}', 'importance.csv"})'), "setup-dvc",
        re.compile(
            r"error: dvc\.yaml\.template, line \d+: expected token 'end of print statement', got 'artifacts'; expected "
            r"a call as the comment at its top has them: correct that line"
        ),
    ),
    Case(
        "template: no YAML", template("\nplots:\n", "\nplots: [\n"), "setup-dvc",
        re.compile(r"error: dvc\.yaml\.template gives no YAML \(.+\); expected a dvc\.yaml: correct it"),
    ),
    Case(
        "template: a stage without a folder", template('stage("evaluate"', 'stage("judge"'), "setup-dvc",
        re.compile(
            r"error: dvc\.yaml\.template, line \d+: stage 'judge' has no folder stages/judge with files in it; "
            r"expected one: make it"
        ),
    ),
    Case(
        "template: two stages write one folder", template('": "metrics/', '": "models/'), "setup-dvc",
        re.compile(
            r"error: dvc\.yaml\.template, line \d+: stage 'evaluate': it and 'train' both write below models/; "
            r"expected a folder of its own for each: change one's paths"
        ),
    ),
    Case(
        "template: a circle", template('"raw": "data/raw/iris.csv"', '"raw": "metrics/roc.csv"'), "setup-dvc",
        re.compile(
            r"error: dvc\.yaml\.template: the stages \w+ -> \w+ -> (\w+ -> )?\w+ wait for each other; expected no "
            r"circle: change an input"
        ),
    ),
    Case(
        "template: a model that no stage makes", template('file="models/model.json"', 'file="models/other.json"'),
        "setup-dvc",
        re.compile(
            r"error: dvc\.yaml\.template, line \d+: model 'iris-classifier': no stage above it writes "
            r"models/other\.json; expected one that lists it under outputs"
        ),
    ),
    Case(
        "template: a model that no stage scores", template('"model": "models/model.json", "test_csv"', '"test_csv"'),
        "setup-dvc",
        re.compile(
            r"error: dvc\.yaml\.template, line \d+: model 'iris-classifier': stage 'evaluate' writes "
            r"metrics/metrics\.json without reading models/model\.json; expected it as an input"
        ),
    ),
    # --- .env
    Case(
        ".env: DagsHub half", dotenv("DAGSHUB_TOKEN=x"), "setup-dvc",
        "error: DagsHub is half configured in .env: DAGSHUB_USER_NAME, MLFLOW_TRACKING_URI missing; expected all of "
        "DAGSHUB_USER_NAME, DAGSHUB_TOKEN, MLFLOW_TRACKING_URI or none: set what is missing",
    ),
    Case(
        ".env: a variable misspelt", dotenv("DAGSHUB_TOKN=x"), "setup-dvc",
        "error: .env sets DAGSHUB_TOKN, which nothing reads; expected a variable of .env.example: did you mean "
        "DAGSHUB_TOKEN?",
    ),
    Case(
        ".env: a line that sets nothing", dotenv("MLFLOW_PORT"), "setup-dvc",
        re.compile(r"error: \.env, line \d+: expected NAME=value; correct that line"),
    ),
    Case(
        ".env: cut off", content(".env", lambda data: data.rstrip()), "setup-dvc",
        "error: .env ends within a line; expected a line break after the last one: complete that line",
    ),
    Case(
        ".env: not UTF-8", dotenv("DAGSHUB_USER_NAME=Ren\xe9"), "setup-dvc",
        re.compile(r"error: \.env, line \d+: it is not UTF-8; expected text: correct that line"),
    ),
    Case(
        ".env: a relative remote", dotenv("DVC_REMOTE_URL=some/folder"), "setup-dvc",
        "error: DVC_REMOTE_URL is 'some/folder'; expected an absolute folder or s3://bucket/prefix: correct it in .env",
    ),
    Case(
        ".env: a remote that is not there", dotenv("DVC_REMOTE_URL=/nowhere/folder"), "setup-dvc",
        "error: DVC_REMOTE_URL is /nowhere/folder, which is not here; expected a folder that exists: make it",
    ),
    in_a_stage(
        "limit: no size", anew, "run-preprocess",
        f"error: stage preprocess could not be started, invalid argument \"lots\" for \"-m, --memory\" flag: invalid "
        f"size: 'lots'; is a limit in .env wrong? {LOG}",
        PREPROCESS_MEMORY="lots",
    ),
    in_a_stage(
        "limit: killed for memory", anew, "run-preprocess",
        "error: stage preprocess was killed for more memory than 20m: set PREPROCESS_MEMORY in .env; "
        f"{LOG}",
        PREPROCESS_MEMORY="20m",
    ),
    in_a_stage(
        "limit: took too long", anew, "run-preprocess",
        f"error: stage preprocess took longer than 0.1: set PREPROCESS_TIMEOUT in .env; {LOG}",
        PREPROCESS_TIMEOUT="0.1",
    ),
    in_a_stage(
        "a file that is not declared", undeclared, "run-preprocess",
        "error: preprocess: data/raw/more.csv is not there; stages see only what they declare: add it to the inputs of "
        "its block in dvc.yaml.template",
    ),
    # --- a URL
    in_a_stage(
        "URL: without SHA-256", url("iris.csv", sha256="null"), "run-ingest",
        "error: ingest: ingest.sha256 is null; expected the SHA-256 of ingest.source's file: set it",
    ),
    in_a_stage(
        "URL: another SHA-256", url("iris.csv", sha256="a" * 64), "run-ingest",
        re.compile(
            rf"error: ingest: http://\S+:8000/iris\.csv has the SHA-256 [0-9a-f]{{64}}; expected {'a' * 64}: if the "
            r"new file is right, set ingest\.sha256 in params\.yaml"
        ),
    ),
    in_a_stage(
        "URL: refused", url("iris.csv", port=8001), "run-ingest",
        re.compile(
            r"error: ingest: ingest\.source http://\S+:8001/iris\.csv cannot be downloaded: .*Connection refused.*; "
            r"expected a CSV file there: correct it or try later"
        ),
    ),
    in_a_stage(
        "URL: 404", url("404.csv"), "run-ingest",
        re.compile(
            r"error: ingest: ingest\.source http://\S+/404\.csv cannot be downloaded: HTTP Error 404: .*; expected a "
            r"CSV file there: correct it or try later"
        ),
    ),
    in_a_stage(
        "URL: cut off", url("cut.csv"), "run-ingest",
        re.compile(
            r"error: ingest: ingest\.source http://\S+/cut\.csv cannot be downloaded: .*IncompleteRead.*; expected a "
            r"CSV file there: correct it or try later"
        ),
    ),
    in_a_stage(
        "URL: never ends", url("drip.csv"), "run-ingest",
        re.compile(
            r"error: ingest: the download of http://\S+/drip\.csv took longer than 2 s; expected its end by then: "
            r"raise DOWNLOAD_TIMEOUT in \.env"
        ),
        DOWNLOAD_TIMEOUT="2",
    ),
    # --- a file of the user's
    in_a_stage(
        "file: missing", external(None), "run-ingest",
        f"error: stage ingest reads {MINE}, which is missing; expected a file: add it, or name another one",
    ),
    in_a_stage(
        "file: another SHA-256", external(lambda data: data, sha256="a" * 64), "run-ingest",
        re.compile(
            rf"error: ingest: {MINE} has the SHA-256 [0-9a-f]{{64}}; expected {'a' * 64}: if the new file is right, "
            r"set ingest\.sha256 in params\.yaml"
        ),
    ),
    in_a_stage(
        "file: a column missing", external(lambda data: re.sub(rb"(?m)^[^,]*,", b"", data)), "run-ingest",
        of_mine(f": column sepal_length is missing; expected the columns {COLUMNS}"),
    ),
    in_a_stage(
        "file: a column too many", external(lambda data: re.sub(rb"(?m)$(?=\n)", b",id", data)), "run-ingest",
        of_mine(f": column id is not expected; expected the columns {COLUMNS}"),
    ),
    in_a_stage(
        "file: text for a number", external(lambda data: data.replace(b"\n4.9,", b"\nwide,", 1)), "run-ingest",
        of_mine(": column sepal_length in data row 2 holds 'wide'; expected a number of cm in (0, 100]"),
    ),
    in_a_stage(
        "file: NaN", external(lambda data: data.replace(b"\n4.9,", b"\nNaN,", 1)), "run-ingest",
        of_mine(": column sepal_length in data row 2 holds 'NaN'; expected a number of cm in (0, 100]"),
    ),
    in_a_stage(
        "file: no rows", external(lambda data: data[: data.index(b"\n") + 1]), "run-ingest",
        of_mine(" has no rows; expected at least one"),
    ),
    in_a_stage(
        "file: one class", external(lambda data: b"".join(data.splitlines(keepends=True)[:51])), "run-ingest",
        of_mine(" has one class, setosa; expected at least two"),
    ),
    in_a_stage(
        "file: Latin-1", external(lambda data: data + b"1,1,1,1,s\xe9tosa\n"), "run-ingest",
        re.compile(rf"error: ingest: {MINE} is not UTF-8 \(byte \d+\); expected a CSV file in UTF-8: convert it"),
    ),
    # --- the machine, the image, the lock
    in_a_stage(
        "output: not writable", unwritable, "run-preprocess",
        re.compile(
            r"error: data/processed/\S+, which stage preprocess wrote, cannot be put in its place: Permission denied; "
            r"expected a folder that uid \d+ may write, with free space: mend that and run again"
        ),
    ),
    Case(
        "image: cannot be built", edit("stages/preprocess/Dockerfile", "FROM ${BASE_IMAGE}", "FORM"), "run-preprocess",
        "error: the image of preprocess could not be built: correct what the lines above complain of (whole log: "
        ".local/logs/build-preprocess.log)",
    ),
    Case(
        "image: a package without a hash", content("stages/train/requirements.txt", lambda data: data + b"toolz==1\n"),
        "run-train",
        "error: the image of train could not be built: a package has no hash; expected one for each: name it in "
        "stages/train/requirements.in, and 'make lock' (whole log: .local/logs/build-train.log)",
    ),
    Case(
        "lock: in conflict", edit("dvc.lock", "  preprocess:", "<<<<<<< HEAD\n  preprocess:"), "run-ingest", DAMAGED,
    ),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_bad_input_ends_in_one_sentence(bench: Bench, case: Case) -> None:
    """A mistake ends in one sentence; once it is corrected, the outputs are there or the next run makes them again."""
    case.spoil(bench)
    try:
        bench.refused(bench.clone.make(case.target, check=False, **case.shell), case.sentence)
    finally:
        bench.correct()
    if case.in_a_stage:
        bench.recovers(case.target)
    else:
        bench.is_as_before()


@pytest.mark.parametrize("id", ["params: out of range", "limit: killed for memory", "URL: another SHA-256"])
def test_the_last_good_outputs_can_be_had_back(bench: Bench, id: str) -> None:
    """After a stage has failed, `dvc checkout` brings the outputs of the last good run back."""
    (case,) = [case for case in CASES if case.id == id]
    case.spoil(bench)
    try:
        bench.refused(bench.clone.make(case.target, check=False, **case.shell), case.sentence)
    finally:
        bench.correct()
    assert bench.outputs() != bench.good
    runner = ["sh", "scripts/host/runner.sh", "exec"]  # make shell, without what else a shell gets
    subprocess.run([*runner, "dvc", "checkout", "--quiet"], cwd=bench.clone.path, check=True)
    bench.is_as_before()


# --- what takes more than a file


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Mount a file system of one full page over `folder` on the host; skip the test if the engine refuses that."""
    host = ["docker", "run", "--rm", "--privileged", "--pid=host", os.environ["RUNNER_IMAGE"]]
    host += ["nsenter", "--target", "1", "--mount"]
    options = f"size=4k,mode=755,uid={os.getuid()},gid={os.getgid()}"
    mounted = subprocess.run([*host, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"the engine mounts nothing on its host: {mounted.stderr.decode().strip()}")
    try:
        seen = ["docker", "run", "--rm", "--mount", f"type=bind,src={folder},dst=/full", os.environ["RUNNER_IMAGE"]]
        seen += ["sh", "-c", "stat --file-system --format %T /full; dd if=/dev/zero of=/full/page bs=4k count=1"]
        if not subprocess.check_output(seen, stderr=subprocess.DEVNULL).startswith(b"tmpfs"):
            pytest.skip("the engine does not see what its host mounts")
        yield
    finally:
        subprocess.run([*host, "umount", str(folder)], check=True)


def test_a_full_disk_ends_in_one_sentence(bench: Bench) -> None:
    """A stage whose output does not fit ends in one sentence; with space again, the next run is right."""
    anew(bench)
    try:
        with full_disk(bench.clone.path / PROCESSED):
            done = bench.clone.make("run-preprocess", check=False)
    finally:
        bench.correct()
    sentence = (
        r"error: preprocess: cannot write [\w./ ]+: No space left on device; expected a folder that uid \d+ may write, "
        r"with free space: mend that and run again"
    )
    bench.refused(done, re.compile(sentence))
    bench.recovers("run-preprocess")


def test_an_image_that_is_gone_ends_in_one_sentence(bench: Bench) -> None:
    """A stage whose image is deleted while the run goes on says that it must be built; the next run builds it."""
    clone = bench.clone
    url("held.csv")(bench)
    clone.edit("stages/preprocess/preprocess.py", "TARGET =", f"# {uuid.uuid4()}\nTARGET =")  # an image that is ours
    command = ["make", "run-preprocess", "JOBS=1"]  # else its container is started early
    try:
        with subprocess.Popen(
            command, cwd=clone.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as run:
            ingest = ("container", "ls", "--quiet", "--filter", "label=pipeline.stage=ingest")
            wait_until(lambda: clone.docker(*ingest), "ingest runs")
            image = re.search(r"stages/preprocess:\w+", (clone.path / "dvc.yaml").read_text())[0]
            inspect = ["docker", "image", "inspect", "--format", "{{.Id}}", image]
            edited = subprocess.check_output(inspect, text=True).strip()
            subprocess.run(["docker", "image", "rm", image], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["docker", "exec", bench.server, "touch", "/tmp/release"], check=True)
            printed = run.stdout.read()
    finally:
        bench.correct()
    sentence = (
        f"error: stage preprocess could not be started, Error response from daemon: No such image: {image}: "
        "'make build' builds it"
    )
    bench.refused(Make(command, run.returncode, printed), sentence)
    bench.recovers("run-preprocess")
    subprocess.run(["docker", "image", "rm", edited], check=True, stdout=subprocess.DEVNULL)  # no name of it is left


@pytest.mark.parametrize(
    "source",
    [
        external(lambda data: b"\xef\xbb\xbf" + data),
        external(lambda data: data.replace(b"\n", b"\r\n")),
        url("iris.csv"),
    ],
    ids=["BOM", "CRLF", "URL"],
)
def test_what_only_looks_different_gives_the_same_bytes(bench: Bench, source: Mistake) -> None:
    """The same table with a byte order mark, with Windows line ends, or from a URL gives the same output bytes."""
    source(bench)
    try:
        done = bench.clone.make("run-ingest")
        made = (bench.clone.path / RAW).read_bytes()
    finally:
        bench.correct()
    assert "ingest | starts in" in done.stdout
    assert made == bench.good[RAW]
    bench.recovers("run-ingest")


def test_after_all_these_mistakes_nothing_is_to_run(bench: Bench) -> None:
    """With every mistake corrected, `make run` finds all stages up to date and the model published."""
    done = bench.clone.make("run")
    assert stages_line(done) == NOTHING
    assert "version 1, published before" in done.stdout
    bench.is_as_before()
