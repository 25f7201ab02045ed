"""The environment that everything in the runner works in: .env, the shell's variables, and what follows from them.

This is the only reader of .env: Docker's and Compose's own parsers read quotes, # and $ differently.
"""

import difflib
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit

from dotenv.parser import parse_stream

from scripts.pipeline import images
from scripts.pipeline.stage import prefix
from scripts.project import PROJECT, Project, UserError, atomic_write, may_be_cut_off

LIMITS = ("MEMORY", "CPUS", "PIDS", "TIMEOUT", "OUTPUT_SIZE", "OUTPUT_FILES")
OF_SOME = ("GPUS", "SHM", "TMP")
"""Limits of those stages alone whose blocks give them."""
UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
LOCAL_MLFLOW = "http://mlflow:5000"
DAGSHUB_REMOTE = "s3://dvc"
DAGSHUB = ("DAGSHUB_USER_NAME", "DAGSHUB_TOKEN", "MLFLOW_TRACKING_URI")
SECRETS = (
    "DAGSHUB_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
)  # fmt: skip
PATIENCE = {
    # A server that is away is reported within a minute, whatever it says of when to come back.
    "AWS_MAX_ATTEMPTS": "3",
    "AWS_RETRY_MODE": "standard",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "12",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    # Large files go through the server as all others do: where it hands them on to a bucket, MLflow's client waits as
    # long as that bucket says.
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
}
S3 = {
    # Some S3 servers refuse the checksums that newer versions of botocore add.
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}


def ensure_dotenv(project: Project = PROJECT) -> bool:
    """Create .env, mode 0600, if there is none; return whether it was created. An existing one is never touched."""
    if project.env.exists():
        return False
    atomic_write(project.env, project.env_example.read_bytes(), mode=0o600)
    said = ".env: created from .env.example; everything runs locally until you fill it in"
    print(said, file=sys.stderr, flush=True)  # standard output is the verb's, and may be JSON
    return True


def read_dotenv(path: Path) -> dict[str, str]:
    """Return the variables of a .env file, none if there is no such file; nothing in a value is expanded.

    Raise UserError for a line that is not NAME=value, and for a file that is not text.
    """
    if not path.exists():
        return {}
    values = {}
    try:
        text = path.read_text()
    except UnicodeDecodeError as error:
        line = path.read_bytes().count(b"\n", 0, error.start) + 1
        raise UserError(f"{path.name}, line {line}: it is not UTF-8; expected text: correct that line") from None
    if may_be_cut_off(text):
        raise UserError(f"{path.name} ends within a line; expected a line break after the last one: complete that line")
    for binding in parse_stream(StringIO(text)):
        if binding.error or (binding.key and binding.value is None):
            raise UserError(f"{path.name}, line {binding.original.line}: expected NAME=value; correct that line")
        if binding.key:
            values[binding.key] = binding.value or ""
    return values


def settings(
    defaults: Mapping[str, str],
    dotenv: Mapping[str, str],
    shell: Mapping[str, str],
    stages: Sequence[str],
    named: Collection[str] = (),
) -> dict[str, str]:
    """Return each setting: the shell's, else .env's, else the default of .env.example. An empty value counts as none.

    Raise UserError for a variable of .env that is neither in .env.example, nor a limit of one of the `stages`, nor one
    of those that a block has `named`.
    """
    limits = [f"{prefix(stage)}_{limit}" for stage in stages for limit in (*LIMITS, *OF_SOME)]
    names = list(dict.fromkeys([*defaults, *limits, *sorted(named)]))
    for name in dotenv:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            meant = f"did you mean {near[0]}?" if near else "remove it"
            raise UserError(f".env sets {name}, which nothing reads; expected a variable of .env.example: {meant}")
    found = {name: shell.get(name) or dotenv.get(name) or defaults.get(name, "") for name in names}
    return {name: value for name, value in found.items() if value}


def size(memory: str) -> int | None:
    """Return the bytes of a size as Docker reads it (`512m`, `2g`, `1.5 GiB`), None if Docker would refuse it."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([bkmgt])(?:i?b)?)?", memory, re.IGNORECASE)
    return int(float(match[1]) * UNITS[(match[2] or "b").lower()]) if match else None


def seconds(time: str) -> float | None:
    """Return the seconds of a time as `timeout` reads it (`90`, `1.5h`; 0: no limit), None if it would refuse it."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", time)
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else None


def limits(given: Mapping[str, str], stages: Sequence[str]) -> dict[str, str]:
    """Return the limits of every stage by variable: its own (`MY_STAGE_MEMORY`), else the common `STAGE_MEMORY`."""
    return {
        f"{prefix(stage)}_{limit}": given.get(f"{prefix(stage)}_{limit}") or given[f"STAGE_{limit}"]
        for stage in stages
        for limit in LIMITS
    }


def tracking(given: Mapping[str, str]) -> dict[str, str]:
    """Return MLflow's and the remote's variables: of DagsHub, of another server, or of the local one.

    Raise UserError for an address that cannot work, and if only some of DagsHub's settings are there, rather than
    silently use the local server.
    """
    uri = given.get("MLFLOW_TRACKING_URI", "").strip().rstrip("/")
    _check_reachable(uri)
    if given.get("DAGSHUB_TOKEN") or given.get("DAGSHUB_USER_NAME"):
        return _dagshub(given, uri)
    if uri:
        _check_server(uri)
    if _host(uri) == "dagshub.com" and "MLFLOW_TRACKING_PASSWORD" not in given:
        raise UserError("MLFLOW_TRACKING_URI is DagsHub's, but DAGSHUB_USER_NAME and DAGSHUB_TOKEN are empty; set them")
    return {"MLFLOW_TRACKING_URI": uri or LOCAL_MLFLOW}


HOST_ALONE = re.compile(r"[\w.-]+:\d+(/.*)?|[\w-]+(\.[\w-]+)+(/.*)?")
"""An address without its http://: `mlflow:5000`, `dagshub.com/me/repo.mlflow`."""
PAGE = re.compile(r"/*(#|\?|/(ajax-)?api/\d|/health$|/version$).*", re.DOTALL)
"""What follows the address of an MLflow server in that of one of its pages or calls."""
OF_DAGSHUB = re.compile(r"(/[^/]+/[^/]+?)(\.(mlflow|git|s3|dvc))?(/.*)?")


def _host(uri: str) -> str | None:
    return urlsplit(f"//{uri}" if HOST_ALONE.fullmatch(uri) else uri).hostname


def _check_reachable(uri: str) -> None:
    """Raise UserError if an address holds a secret, or if no container can reach it."""
    if "@" in uri.partition("://")[2].partition("/")[0] or "@" in uri.partition("/")[0]:  # somebody put a token into it
        raise UserError(
            "MLFLOW_TRACKING_URI holds a user or a token; expected an address alone: put them into DAGSHUB_USER_NAME "
            "and DAGSHUB_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    try:
        host = _host(uri)
        _ = urlsplit(uri).port
    except ValueError as error:
        raise UserError(
            f"MLFLOW_TRACKING_URI is no address ({error}); expected https://host/path: correct it in .env"
        ) from None
    if host and (host in ("localhost", "0.0.0.0", "::", "::1") or re.fullmatch(r"127(\.\d+){3}", host)):
        raise UserError(
            f"MLFLOW_TRACKING_URI is {_shown(uri)}, which inside a container is the container itself; expected a name "
            "that containers reach: use this machine's name on the network, or leave it empty for the local server"
        )


def _check_server(uri: str) -> None:
    """Raise UserError for all that is no server's address, with the right form where that is clear."""
    address, found = urlsplit(uri), f"MLFLOW_TRACKING_URI is {_shown(uri)!r}, which"
    if HOST_ALONE.fullmatch(uri):
        scheme = "https" if _host(uri) == "dagshub.com" else "http"
        right = _server_of(f"{scheme}://{uri}")
        raise UserError(f"{found} lacks http:// or https://; expected one of them: set {right} in .env")
    if address.scheme not in ("http", "https"):
        raise UserError(
            f"{found} is no server's address; expected one like https://host/path, not a folder, a database or "
            "Databricks: correct it in .env, or leave it empty for the local server"
        )
    if not re.fullmatch(r"[\w.-]+|[\da-f:]+", address.hostname or ""):
        raise UserError(f"{found} names no host; expected one like {address.scheme}://host:5000: correct it in .env")
    right = _server_of(uri)
    if address.hostname == "dagshub.com" and not right.endswith(".mlflow"):
        raise UserError(f"{found} names no repository; expected https://dagshub.com/<owner>/<repo>.mlflow: correct it")
    if right != uri:
        raise UserError(f"{found} is a page; expected the address of the server itself: set {right} in .env")


def _server_of(uri: str) -> str:
    """Return the address of the server to which that of a page belongs."""
    server = PAGE.sub("", uri)
    address = urlsplit(server)
    if address.hostname == "dagshub.com" and (repository := OF_DAGSHUB.fullmatch(address.path)):
        return f"https://dagshub.com{repository[1]}.mlflow"
    return server


def _shown(uri: str) -> str:
    """Return an address without what follows its ?, where there may be a password."""
    return uri.partition("?")[0][:200]


def _dagshub(given: Mapping[str, str], uri: str) -> dict[str, str]:
    missing = [name for name in DAGSHUB if not given.get(name)]
    if missing:
        raise UserError(
            f"DagsHub is half configured in .env: {', '.join(missing)} missing; "
            f"expected all of {', '.join(DAGSHUB)} or none: set what is missing"
        )
    match = re.fullmatch(r"(https?://[^/]+/[^/]+/[^/]+)\.mlflow", uri)
    if not match:
        raise UserError(
            "MLFLOW_TRACKING_URI is not DagsHub's; expected https://dagshub.com/<owner>/<repo>.mlflow beside "
            "DAGSHUB_TOKEN: correct it in .env"
        )
    user, token = given["DAGSHUB_USER_NAME"], given["DAGSHUB_TOKEN"]
    found = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": token}
    if not given.get("DVC_REMOTE_URL"):
        found |= {"DVC_REMOTE_URL": DAGSHUB_REMOTE, "AWS_ENDPOINT_URL": f"{match[1]}.s3"}
        found |= {"AWS_ACCESS_KEY_ID": token, "AWS_SECRET_ACCESS_KEY": token}
    return found


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Return NO_PROXY with the local server's name added, since a proxy does not reach this clone's network."""
    if not any(environ.get(name) for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")):
        return {}
    given = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    direct = ",".join(filter(None, [given, "mlflow", "localhost", "127.0.0.1"]))
    return {"NO_PROXY": direct, "no_proxy": direct}


def local_password(project: Project) -> str:
    """Return the password of this clone's own MLflow server, which is made the first time. Mode 0600."""
    while True:
        with suppress(FileNotFoundError):
            return project.mlflow_password.read_text()
        project.local.mkdir(mode=0o700, exist_ok=True)
        mine = project.local / f".mlflow-password.{os.getpid()}.{secrets.token_hex(4)}.part"
        atomic_write(mine, secrets.token_urlsafe(16), mode=0o600)
        with suppress(FileExistsError):  # another command was first: all go by its
            os.link(mine, project.mlflow_password)
        mine.unlink()


def mlflow_login(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Return user and password for the MLflow server in use; None if there are none."""
    user, password = (environ.get(f"MLFLOW_TRACKING_{name}", "") for name in ("USERNAME", "PASSWORD"))
    return (user, password) if user or password else None


def is_local(environ: Mapping[str, str]) -> bool:
    """Return True if runs are tracked by this clone's own MLflow server."""
    return environ["MLFLOW_TRACKING_URI"] == LOCAL_MLFLOW


def is_dagshub(environ: Mapping[str, str]) -> bool:
    """Return True if runs are tracked on DagsHub, or on a server with its addresses."""
    return environ["MLFLOW_TRACKING_URI"].endswith(".mlflow")


def load(project: Project = PROJECT) -> dict[str, str]:
    """Return the environment to work in: the process's own, settled by .env and .env.example, with all that dvc.yaml
    names.

    Raise UserError for a setting that cannot work.
    """
    stages = images.stage_names(project.stages)
    defaults = read_dotenv(project.env_example)
    for names in of_rooms(project).values():
        defaults |= names
    given = settings(defaults, read_dotenv(project.env), os.environ, stages, named(project))
    network = f"pipeline-{os.environ['CLONE']}"
    inherited = {name: value for name, value in os.environ.items() if name not in defaults}
    own = {
        "STAGE_USER": f"{os.getuid()}:{os.getgid()}",
        "MLFLOW_NETWORK": network,
        "COMPOSE_PROJECT_NAME": network,
        "LOCAL": str(project.local),
    }
    found = inherited | given | limits(given, stages) | tracking(given) | proxies(inherited) | own | PATIENCE | S3
    if is_local(found):
        login = os.environ.get("HOST_USER") or "local", local_password(project)
        found |= dict(zip(("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"), login, strict=True))
    return found


def of_rooms(project: Project = PROJECT) -> dict[str, dict[str, str]]:
    """Return the settings that optional rooms add to those of .env.example, with their defaults, by room."""
    return {path.parent.name: read_dotenv(path) for path in sorted(project.root.glob("scripts/*/env.example"))}


def named(project: Project) -> set[str]:
    """Return what may be a name in a block's `env`: each such text in quotation marks in the template."""
    template = project.root / "dvc.yaml.template"
    text = template.read_text(errors="replace") if template.exists() else ""
    return set(re.findall(r"""["']([A-Z][A-Z0-9_]*)["']""", text))


def commit(project: Project = PROJECT) -> str:
    """Return the commit that is checked out, `none` if there is none yet."""
    command = ["git", "rev-parse", "--verify", "--quiet", "HEAD"]
    found = subprocess.run(command, cwd=project.root, capture_output=True, text=True)
    return found.stdout.strip() or "none"


def who(environ: Mapping[str, str]) -> str:
    """Return who publishes: the user name at the MLflow server, else the one on the host, else `unknown`."""
    user = environ.get("MLFLOW_TRACKING_USERNAME")
    if not user or user == environ.get("MLFLOW_TRACKING_PASSWORD"):  # DagsHub also takes the token as the user name
        user = environ.get("HOST_USER")
    return user or "unknown"
