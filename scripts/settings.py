"""The environment that everything in the runner works in: .env, the shell's variables, and what follows from them.

This is the only reader of .env: Docker's and Compose's own parsers would take quotes, # and $ for something else.
"""

import difflib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv.parser import parse_stream
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from scripts.pipeline import images
from scripts.project import LOCAL, ROOT, UserError, may_be_cut_off
from stagekit import first_fault
from stages.train.promotion import HIGHER_IS_BETTER

LIMITS = ("MEMORY", "CPUS", "PIDS", "TIMEOUT")
UNITS = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
LOCAL_MLFLOW = "http://mlflow:5000"
DAGSHUB_REMOTE = "s3://dvc"
DAGSHUB = ("DAGSHUB_USER_NAME", "DAGSHUB_TOKEN", "MLFLOW_TRACKING_URI")


def ensure_dotenv() -> bool:
    """Makes .env if there is none; tells whether it did. An existing one is never touched."""
    if (ROOT / ".env").exists():
        return False
    # In one step, so that a kill leaves no half of it, which would count as the user's own.
    descriptor, part = tempfile.mkstemp(prefix=".env.", suffix=".part", dir=ROOT)  # mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write((ROOT / ".env.example").read_text())
    Path(part).rename(ROOT / ".env")
    print(".env: made from .env.example; everything runs locally until you fill it in", flush=True)
    return True


def read_dotenv(path: Path) -> dict[str, str]:
    """The variables of a .env file, none if there is no such file; nothing in a value is expanded.

    Raises UserError for a line that sets nothing, and for a file that is no text.
    """
    if not path.exists():
        return {}
    values = {}
    try:
        text = path.read_text()
    except UnicodeDecodeError as error:
        line = path.read_bytes().count(b"\n", 0, error.start) + 1
        raise UserError(f"{path.name}, line {line}: it is not UTF-8; expected a text: correct that line") from None
    if may_be_cut_off(text):
        raise UserError(f"{path.name} ends within a line; expected a line break after the last one: complete that line")
    for binding in parse_stream(StringIO(text)):
        if binding.error or (binding.key and binding.value is None):
            raise UserError(f"{path.name}, line {binding.original.line}: expected NAME=value; correct that line")
        if binding.key:
            values[binding.key] = binding.value or ""
    return values


def settings(
    defaults: Mapping[str, str], dotenv: Mapping[str, str], shell: Mapping[str, str], stages: list[str]
) -> dict[str, str]:
    """The value of each setting: the shell's, or .env's, or the default of .env.example; an empty one counts as none.

    Raises UserError for a variable of .env that .env.example does not know (a limit of one stage aside).
    """
    names = [*defaults, *(f"{prefix(stage)}_{limit}" for stage in stages for limit in LIMITS)]
    for name in dotenv:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            meant = f"did you mean {near[0]}?" if near else "remove it"
            raise UserError(f".env sets {name}, which nothing reads; expected a variable of .env.example: {meant}")
    found = {name: shell.get(name) or dotenv.get(name) or defaults.get(name, "") for name in names}
    return {name: value for name, value in found.items() if value}


def prefix(stage: str) -> str:
    """How a stage's name begins its variables: `my-stage` -> `MY_STAGE`."""
    return stage.upper().replace("-", "_")


def size(memory: str) -> int | None:
    """Bytes of what Docker takes for a size of memory (`512m`, `2g`, `1.5 GiB`); None where it is no such thing."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([bkmgt])(?:i?b)?)?", memory, re.IGNORECASE)
    return int(float(match[1]) * UNITS[(match[2] or "b").lower()]) if match else None


def seconds(time: str) -> float | None:
    """Seconds of what `timeout` takes for a time (`90`, `30m`, `1.5h`; 0 for none); None where it is no such thing."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", time)
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]] if match else None


def limits(given: Mapping[str, str], stages: list[str]) -> dict[str, str]:
    """The limits of every stage by variable: its own (`TRAIN_MEMORY`) or else the common one (`STAGE_MEMORY`)."""
    return {
        f"{prefix(stage)}_{limit}": given.get(f"{prefix(stage)}_{limit}") or given[f"STAGE_{limit}"]
        for stage in stages
        for limit in LIMITS
    }


def tracking(given: Mapping[str, str]) -> dict[str, str]:
    """MLflow's and the remote's variables: DagsHub's with its three settings, another server's, or the local one's.

    Raises UserError where only some of DagsHub's settings are there: never a silent fall to local.
    """
    token, user = given.get("DAGSHUB_TOKEN"), given.get("DAGSHUB_USER_NAME")
    uri = given.get("MLFLOW_TRACKING_URI", "").rstrip("/")
    address = urlsplit(uri)
    if "@" in address.netloc:  # never shown: somebody put a token into it
        raise UserError(
            "MLFLOW_TRACKING_URI holds a user or a token; expected an address alone: put them into DAGSHUB_USER_NAME "
            "and DAGSHUB_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    if address.hostname in ("localhost", "127.0.0.1", "::1"):
        raise UserError(
            f"MLFLOW_TRACKING_URI is {uri}, which is the container itself to a stage; expected a name that containers "
            "reach: use this machine's name on the network, or leave it empty for the local server"
        )
    if not (token or user):
        if urlsplit(uri).hostname == "dagshub.com" and "MLFLOW_TRACKING_PASSWORD" not in given:
            raise UserError(
                "MLFLOW_TRACKING_URI is DagsHub's, but DAGSHUB_USER_NAME and DAGSHUB_TOKEN are empty; set them"
            )
        return {"MLFLOW_TRACKING_URI": uri or LOCAL_MLFLOW}
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
    found = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": token}
    if not given.get("DVC_REMOTE_URL"):
        found |= {"DVC_REMOTE_URL": DAGSHUB_REMOTE, "AWS_ENDPOINT_URL": f"{match[1]}.s3"}
        found |= {"AWS_ACCESS_KEY_ID": token, "AWS_SECRET_ACCESS_KEY": token}
    return {name: str(value) for name, value in found.items()}


def proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """NO_PROXY with the local server's name in it: what is on this clone's network is not reached by way of a proxy."""
    if not any(environ.get(name) for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")):
        return {}
    given = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    direct = ",".join(filter(None, [given, "mlflow", "localhost", "127.0.0.1"]))
    return {"NO_PROXY": direct, "no_proxy": direct}


def is_local(environ: Mapping[str, str]) -> bool:
    """Whether runs are tracked by this clone's own MLflow server."""
    return environ["MLFLOW_TRACKING_URI"] == LOCAL_MLFLOW


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Mlflow(_Section):
    experiment: Annotated[str, Field(min_length=1)]
    model: Annotated[
        str, Field(min_length=1, pattern=r"^[^/:.%'\"]+$")
    ]  # what MLflow takes, and what a filter can quote


class _Promotion(_Section):
    metric: Literal[tuple(HIGHER_IS_BETTER)]  # type: ignore[valid-type]
    min_score: Annotated[float, Field(allow_inf_nan=False)] | None
    min_improvement: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    confidence: Annotated[float, Field(ge=0.5, lt=1)] | None


class _Publishing(BaseModel):
    mlflow: _Mlflow
    promotion: _Promotion


def registry(params: Mapping[str, Any], who: str = "unknown") -> str:
    """What publishing needs, as JSON for the variable REGISTRY: two sections of params.yaml, and who publishes.

    Raises UserError for a key that is missing or unknown, and for a value that is not allowed.
    """
    try:
        sections = _Publishing.model_validate(dict(params))
    except ValidationError as error:
        raise UserError(f"{first_fault(error)}: correct it in params.yaml") from None
    gate = sections.promotion.model_dump()
    if gate["confidence"] is not None and gate["metric"] != "test_accuracy":
        raise UserError(
            f"promotion.confidence is {gate['confidence']} beside the metric {gate['metric']}; expected null, since "
            "the test behind it compares accuracies: correct it in params.yaml"
        )
    return json.dumps(sections.mlflow.model_dump() | {"gate": gate, "who": who})


def load() -> dict[str, str]:
    """The environment to work in: the process's own, settled by .env and .env.example, with all that dvc.yaml names.

    REGISTRY and GIT_COMMIT, which only a run needs, are added by `for_a_run`.
    """
    stages = images.stage_names()
    defaults = read_dotenv(ROOT / ".env.example")
    given = settings(defaults, read_dotenv(ROOT / ".env"), os.environ, stages)
    clone = os.environ["CLONE"]
    inherited = {name: value for name, value in os.environ.items() if name not in defaults}
    return (
        inherited
        | given
        | limits(given, stages)
        | tracking(given)
        | proxies(inherited)
        | {
            "STAGE_USER": f"{os.getuid()}:{os.getgid()}",
            "MLFLOW_NETWORK": f"pipeline-{clone}",
            "COMPOSE_PROJECT_NAME": f"pipeline-{clone}",
            "LOCAL": str(LOCAL),
            # A server that is away is told within a minute, whatever it says of when to come back.
            "AWS_MAX_ATTEMPTS": "3",
            "AWS_RETRY_MODE": "standard",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "12",
            "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
            # Some S3 servers refuse the checksums that botocore adds of late.
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }
    )


def for_a_run(params: Mapping[str, Any]) -> dict[str, str]:
    """What a stage that publishes needs beyond `load`: the registry's settings and the commit at hand."""
    commit = subprocess.run(["git", "rev-parse", "--verify", "--quiet", "HEAD"], capture_output=True, text=True)
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    if not user or user == os.environ.get("MLFLOW_TRACKING_PASSWORD"):  # DagsHub takes the token as a user's name, too
        user = os.environ.get("HOST_USER")
    return {"REGISTRY": registry(params, user or "unknown"), "GIT_COMMIT": commit.stdout.strip() or "none"}
