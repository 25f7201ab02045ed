"""`make doctor`: looks at everything a run needs and changes nothing; a line a check, exit 0 only if a run would work.

Each line says what was found and, where that is not good, what is expected and what to type next.
"""

import itertools
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests

from scripts import mlflow_server, settings
from scripts.faults import reason
from scripts.pipeline import images, template
from scripts.pipeline.containers import docker, of_this_clone
from scripts.project import LOCAL, ROOT, UserError
from scripts.recovery import recover

GIB = 1 << 30
FREE_DISK = 5  # GiB: the images, and a margin
TIMEOUT = 5  # seconds for each call, so that all end within ten
SKEW = 300  # seconds by which S3 servers let the clocks differ at most
LIMITS: dict[str, tuple[Callable[[str], object], str]] = {
    "MEMORY": (settings.size, "2g"),
    "CPUS": (re.compile(r"\d+(\.\d+)?").fullmatch, "1.5"),
    "PIDS": (re.compile(r"-?\d+").fullmatch, "256"),
    "TIMEOUT": (re.compile(r"\d+(\.\d+)?[smhd]?").fullmatch, "12h"),
}
"""What tells whether Docker, or `timeout`, takes a limit of a stage, and an example."""
PLACEHOLDER = re.compile(r"^(<.*>|\.\.\.|x{3,}|changeme|your[-_ ].*|token)$|<owner>|<repo>", re.IGNORECASE)


class Check(NamedTuple):
    """One line. `good`: False where a run would fail, None where it works but a person should know."""

    name: str
    good: bool | None
    found: str
    advice: str = ""  # what is expected and what to do, where it is not good

    def __str__(self) -> str:
        sign = {True: "ok  ", False: "BAD ", None: "note"}[self.good]
        return f"{sign}  {self.name:<10} {self.found}" + (f"; {self.advice}" if self.advice and not self.good else "")


# --- this machine


def engine() -> Iterator[Check]:
    """The engine's version and kind, and its machine against the stages' limits."""
    facts = docker("info", "--format", "{{.ServerVersion}}\t{{.MemTotal}}\t{{.NCPU}}\t{{.SecurityOptions}}")
    version, memory, processors, security = facts.split("\t")
    kind = ", rootless" if "rootless" in security else ""
    recent = tuple(map(int, re.findall(r"\d+", version)[:2])) >= (20, 10)
    yield Check("engine", recent, f"Docker {version}{kind}", "expected 20.10 or newer: update it")
    yield Check("machine", True, f"{int(memory) / GIB:.0f} GiB of memory, {processors} processors")
    yield from limits(int(memory), int(processors))


def limits(memory: int, processors: int) -> Iterator[Check]:
    """Those of the stages' limits that are no such thing, or more than the machine's `memory` (bytes), `processors`."""
    for stage, (limit, (is_one, example)) in itertools.product(images.stage_names(), LIMITS.items()):
        name = f"{settings.prefix(stage)}_{limit}"
        value = os.environ[name]
        if is_one(value) is None:
            yield Check("limits", False, f"{name} is {value}", f"expected one like {example}: correct it in .env")
        elif limit == "CPUS" and float(value) > processors:
            yield Check("limits", False, f"{name} is {value}", f"expected at most {processors}: set it in .env")
        elif limit == "MEMORY" and (settings.size(value) or 0) > memory:
            found = f"{name} is {value}, more than the machine's {memory / GIB:.0f} GiB"
            yield Check("limits", None, found, "expected less, or a stage may take all there is: lower it in .env")


def folder() -> Iterator[Check]:
    """Whether a sibling container sees what the runner writes: the one assumption that all mounts rest on."""
    nonce, path = secrets.token_hex(8), LOCAL / "doctor-nonce"
    path.write_text(nonce)
    label, mount = f"pipeline.clone={os.environ['CLONE']}", f"type=bind,src={path},dst=/nonce,readonly"
    command = ["run", "--rm", "--pull", "never", "--network", "none", "--label", label, "--mount", mount]
    try:
        seen = docker(*command, os.environ["RUNNER_IMAGE"], "cat", "/nonce")
    except UserError as error:
        seen = str(error)
    finally:
        path.unlink()
    good = seen == nonce
    found = "a sibling container sees this clone" if good else f"a sibling container does not see this clone: {seen}"
    yield Check("folder", good, found, "expected an engine on this machine, which may mount the folder")


def disk() -> Iterator[Check]:
    """Where the clone lies, and where the engine keeps images: this container's own root is there too."""
    for what, path in (("this clone", ROOT), ("Docker's images", Path("/"))):
        free = shutil.disk_usage(path).free / GIB
        yield Check("disk", free > FREE_DISK, f"{free:.0f} GiB free for {what}", f"expected {FREE_DISK} GiB: make room")


def base_image() -> Iterator[Check]:
    """What the images are made from, and whose certificate authorities they trust."""
    name = os.environ["PYTHON_IMAGE"]
    label = docker("image", "inspect", "--format", '{{index .Config.Labels "pipeline.source"}}', name)
    source = (
        "from Debian's packages, Docker Hub was out of reach" if label == "debian-packages" else "from its pinned image"
    )
    yield Check("base", True, f"{name}, {source}")
    named = Path("/usr/local/share/ca-certificates/host-ca.crt").exists()
    yield Check("CA", True, "Debian's, and the bundle that the host's environment named" if named else "Debian's")
    here = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "stages/*").splitlines()
    missing = [image.tag for image in images.load().values() if image.tag not in here]
    yield Check("images", True, f"{len(missing)} to build, by the next run" if missing else "all built")


# --- this clone


def dotenv() -> Iterator[Check]:
    """Who may read .env, and values that nobody filled in."""
    path = ROOT / ".env"
    mode = path.stat().st_mode & 0o777
    yield Check(".env", not mode & 0o077 or None, f"mode {mode:04o}", "others may read the token in it: chmod 600 .env")
    for name, value in settings.read_dotenv(path).items():
        if PLACEHOLDER.search(value):
            yield Check(".env", False, f"{name} is a placeholder", "expected a value of yours, or nothing: edit .env")


def pipeline() -> Iterator[Check]:
    """dvc.yaml against its template, and what an interrupted run may have left."""
    params = template.read_params()
    settings.registry(params)
    same = (ROOT / "dvc.yaml").read_text() == template.render(
        (ROOT / template.TEMPLATE).read_text(), params, images.load()
    )
    found = "as its template" if same else "not what its template renders to"
    yield Check("dvc.yaml", same or None, found, "the next run renders it: commit it then")
    mine = ("container", "ls", "--quiet", "--filter", of_this_clone(), "--filter")
    stages = docker(*mine, "label=pipeline.stage").split()
    running = len(docker(*mine, "label=pipeline.role=runner").split()) > 1  # one is this runner
    orphans = [] if running else stages
    yield Check(
        "orphans", not orphans or None, f"{len(orphans)} containers of an ended run", "the next run removes them"
    )
    stale = recover.locks_are_held() and not running
    yield Check(
        "locks", not stale or None, "one of an ended run" if stale else "none is stale", "the next run removes it"
    )


# --- the servers


ADVICE = (
    (r"40[13](?!.*--allowed-hosts)", "expected a user and a token that it lets in: correct them in .env"),
    (r"404", "expected it there, and for this user: correct {setting} in .env, make it, or ask its owner"),
    (r"429|5\d\d|no answer|it broke", "expected an answer: try again later, or ask who runs it"),
    (r"its TLS certificate", "expected one of a CA that is known here: name that CA's file in SSL_CERT_FILE"),
    (r"", "expected the server at that address: correct {setting} in .env"),
)
"""What to do, by how the words on a server's fault begin."""


def wrong(name: str, where: str, error: Exception, setting: str) -> Check:
    """The line about a server that did not do what was asked; `setting` is the variable that holds its address."""
    why = reason(error)
    advice = next(advice for pattern, advice in ADVICE if re.match(pattern, why))
    return Check(name, False, f"{where}: {why}", advice.format(setting=setting))


def dagshub() -> Iterator[Check]:
    """DagsHub's word on the token's owner and on the repository."""
    token = os.environ.get("DAGSHUB_TOKEN")
    if not token:
        yield Check("DagsHub", True, "not used: no token in .env")
        return
    import httpx
    from dagshub.auth.token_auth import HTTPBearerAuth
    from dagshub.common.api import RepoAPI
    from dagshub.common.helpers import http_request

    host, owner, name = os.environ["MLFLOW_TRACKING_URI"].removesuffix(".mlflow").rsplit("/", 2)
    auth = HTTPBearerAuth(token)

    def ask(url: str) -> dict[str, Any]:
        return http_request("GET", url, auth=auth, timeout=TIMEOUT).raise_for_status().json()

    try:
        login = ask(f"{host}/api/v1/user")["login"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        yield wrong("DagsHub", host, error, "MLFLOW_TRACKING_URI")
        return
    same = login == os.environ["DAGSHUB_USER_NAME"]
    yield Check("DagsHub", same, f"the token is {login}'s", "expected DAGSHUB_USER_NAME's: correct one of both in .env")
    try:
        permissions = ask(RepoAPI(f"{owner}/{name}", host, auth).repo_api_url).get("permissions") or {}
    except (httpx.HTTPError, ValueError) as error:
        yield wrong("repository", f"{owner}/{name}, as {login}", error, "MLFLOW_TRACKING_URI")
        return
    writes = permissions.get("push", True)
    found = f"{owner}/{name}, which {login} {'may write' if writes else 'may only read'}"
    yield Check("repository", writes, found, f"expected write access: ask {owner}, or make a token that has it")


PROBES: Mapping[str, str] = {
    "stages": "registered-models/get-latest-versions?name=doctor",
    "aliases": "registered-models/alias?name=doctor&alias=doctor",
    "logged models": "logged-models/doctor",
}
"""Calls that read what is not there: a server that knows the call says so in JSON, another knows no such call."""


def mlflow() -> Iterator[Check]:
    """MLflow: whether it answers, knows us, and what it supports; and its clock."""
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if settings.is_local(os.environ) and not mlflow_server.answers():
        yield Check("MLflow", True, "the local server is not running: the next run starts it")
        return
    try:
        response = _call(uri, "experiments/search?max_results=1")
        response.raise_for_status()
        response.json()
        known = [name for name, path in PROBES.items() if _knows(_call(uri, path))]
    except (requests.RequestException, ValueError) as error:
        yield wrong("MLflow", uri, error, "MLFLOW_TRACKING_URI")
        return
    yield Check("MLflow", True, f"{uri} answers")
    needed = "stages" in known or "aliases" in known
    yield Check(
        "registry", needed, f"supports {', '.join(known) or 'none'}", "expected stages or aliases: MLflow 2.7 on"
    )
    if date := response.headers.get("Date"):
        skew = abs(time.time() - parsedate_to_datetime(date).timestamp())
        found = f"{skew:.0f} s apart from {urlsplit(uri).hostname}'s"
        yield Check("clock", skew < SKEW, found, f"expected under {SKEW} s, S3 refuses more: set this machine's clock")


def _call(uri: str, path: str) -> requests.Response:
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    auth = (user, password) if user or password else None
    return requests.get(f"{uri}/api/2.0/mlflow/{path}", auth=auth, timeout=TIMEOUT)


def _knows(answer: requests.Response) -> bool:
    try:
        code = answer.json().get("error_code")
    except ValueError:
        return False
    return answer.ok or code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def data() -> Iterator[Check]:
    """DVC's remote: whether it can be reached, read and, if it is a folder, written; nothing is put there to try."""
    from dvc.repo import Repo

    from scripts import transfer

    os.environ["AWS_MAX_ATTEMPTS"] = "1"
    with Repo(str(ROOT)) as repo:
        try:
            odb = repo.cloud.get_remote_odb()
            transfer.contact(odb)
        except transfer.FAULTS as error:
            where, setting = _remote_by_settings(os.environ)
            yield wrong("remote", where, transfer.first_cause(error), setting)
            return
    where = odb.fs.unstrip_protocol(odb.path).removesuffix("/files/md5")
    if odb.fs.protocol == "local":
        nearest = next(path for path in (Path(odb.path), *Path(odb.path).parents) if path.exists())
        advice = f"{nearest} cannot be written: change its owner or mode"
        yield Check("remote", os.access(nearest, os.W_OK), where.removeprefix("file://"), advice)
    elif odb.fs.protocol in ("http", "https"):
        yield Check("remote", None, f"{where} answers, but keeps no run-cache", "expected a folder or S3 for that")
    else:
        yield Check("remote", True, f"{where} answers, and keeps the run-cache")


def _remote_by_settings(environ: Mapping[str, str]) -> tuple[str, str]:
    """DVC's remote in words, and which variables hold its address."""
    url, endpoint = environ.get("DVC_REMOTE_URL", "DVC's own"), environ.get("AWS_ENDPOINT_URL")
    if not (url.startswith("s3://") and endpoint):
        return url, "DVC_REMOTE_URL"
    by_dagshub = "DAGSHUB_TOKEN" in environ and url == settings.DAGSHUB_REMOTE
    return f"{url} at {endpoint}", "MLFLOW_TRACKING_URI" if by_dagshub else "DVC_REMOTE_URL or AWS_ENDPOINT_URL"


CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (
    engine,
    folder,
    disk,
    base_image,
    dotenv,
    pipeline,
    dagshub,
    mlflow,
    data,
)


def main(arguments: list[str]) -> int:
    good = True
    for check in CHECKS:
        try:
            for line in check():
                print(line, flush=True)
                good = good and line.good is not False
        except UserError as error:
            print(Check(check.__name__, False, str(error)), flush=True)
            good = False
    print("a run would work" if good else "a run would not work: see the lines marked BAD")
    return 0 if good else 1
