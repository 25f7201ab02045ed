"""The folder `model/` of a run: `mlflow.pyfunc.load_model` of MLflow 2.7 and later loads it by the model's own loader.

Nothing here loads a model, and none of it depends on what the model is.
"""

import json
import platform
import re
import shutil
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import add_to_model

from scripts.pipeline.console import printable
from scripts.project import UserError
from scripts.registry.stage_files import read_value, shown

if TYPE_CHECKING:
    from scripts.registry.versions import Candidate

FOLDER = "model"
CODE, DATA, REQUIREMENTS, CONDA, PYTHON = "code", "data", "requirements.txt", "conda.yaml", "python_env.yaml"
EXAMPLE = "input_example.json"
NESTED = ("array", "object", "map", "any", "sparkml_vector")  # types that MLflow 2.7 does not know
OWN = {"MLmodel", CODE, REQUIREMENTS, CONDA, PYTHON, EXAMPLE, FOLDER}
"""Names that a model's file must not have there; MLflow's client takes model/model, if it is alone, for no file."""


def place(name: str) -> str:
    """Return the artifact that a model's file or folder of this name is."""
    return f"{FOLDER}/{DATA}/{name}" if name in OWN else f"{FOLDER}/{name}"


def check_names(file: Path) -> None:
    """Raise UserError if a server would get a model's file, or one of its folder, under another name or not at all."""
    for path in [file, *(file.rglob("*") if file.is_dir() else [])]:
        if not path.name.isprintable() or re.search(r"[#?%\\]", path.name):
            raise UserError(
                f"the model has the file {printable(shown(path))}, a name that no MLflow server takes; expected none "
                "with #, ?, %, \\ or what cannot be printed: let its stage write another one"
            )


def read_signature(path: Path) -> ModelSignature:
    """Return the signature that a stage wrote. Raise UserError if the file holds none."""
    given = read_value(path)
    try:
        signature = ModelSignature.from_dict(given)
        _for_old_clients(signature)
        return signature
    except (MlflowException, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())[:150] or type(error).__name__
        raise UserError(
            f"{shown(path)} is no signature of MLflow ({why}); expected what ModelSignature.to_dict() gives, as in "
            '{"inputs": "[{\\"type\\": \\"double\\", \\"name\\": \\"x\\"}]"}: correct the stage that writes it'
        ) from None


def write(folder: Path, candidate: "Candidate", signature: ModelSignature | None, run_id: str) -> None:
    """Write into `folder` all that belongs to a model with a loader, but its file."""
    module = _module(candidate.loader)
    (folder / CODE).mkdir(parents=True)
    shutil.copyfile(candidate.loader, folder / CODE / f"{module}.py")
    _write_environment(folder, candidate.requirements)
    model = Model(artifact_path=FOLDER, run_id=run_id, signature=signature)
    if candidate.example is not None:
        example = {"columns": [*candidate.example], "data": [[*candidate.example.values()]]}
        (folder / EXAMPLE).write_text(json.dumps(example))
        model.saved_input_example_info = {"artifact_path": EXAMPLE, "type": "dataframe", "pandas_orient": "split"}
    model.model_size_bytes = _size(folder) + _size(candidate.file)
    data = candidate.place.removeprefix(f"{FOLDER}/")
    add_to_model(model, loader_module=module, code=CODE, data=data, conda_env=CONDA, python_env=PYTHON)
    described = model.to_dict()
    if signature:
        described["signature"] = _for_old_clients(signature)
    (folder / "MLmodel").write_text(yaml.safe_dump(described, sort_keys=False))


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def _for_old_clients(signature: ModelSignature) -> dict[str, str | None]:
    """Return the signature without `required: true`: MLflow 2.7 refuses the key, later versions take it as given."""
    found = signature.to_dict()
    for side in ("inputs", "outputs"):
        columns = json.loads(found.get(side) or "[]")
        for column in columns:
            if column.get("required") is True and column["type"] not in NESTED:
                del column["required"]
        found[side] = json.dumps(columns) if columns else None
    return found


def _module(loader: Path) -> str:
    """Return a name that no other loader has: Python keeps one module of a name, whichever model it came with."""
    return f"{re.sub(r'\\W', '_', loader.stem)}_{sha256(loader.read_bytes()).hexdigest()[:8]}"


def _write_environment(folder: Path, requirements: Sequence[str]) -> None:
    names = {re.split(r"[^\w.-]", line)[0] for line in requirements}
    wanted = [*([] if names & {"mlflow", "mlflow-skinny"} else [f"mlflow=={installed('mlflow')}"]), *requirements]
    python = platform.python_version()
    conda = ["pip", f"python={python}", {"pip": wanted}]
    environment = {"python": python, "build_dependencies": ["pip"], "dependencies": [f"-r {REQUIREMENTS}"]}
    (folder / REQUIREMENTS).write_text("".join(f"{line}\n" for line in wanted))
    (folder / PYTHON).write_text(yaml.safe_dump(environment, sort_keys=False))
    (folder / CONDA).write_text(
        yaml.safe_dump({"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": conda}, sort_keys=False)
    )
