"""Predicts for a file of the clone, in the scorer's image, which sees the file, the model, and one empty folder."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.digests import sha256
from scripts.pipeline.console import harmless
from scripts.pipeline.containers import stop
from scripts.pipeline.images import Image
from scripts.pipeline.stage import NOT_FOR_OUTPUTS
from scripts.project import Project, UserError, atomic_write
from scripts.serving.containers import mount, program, sealed
from scripts.serving.kept import About, Kept

KINDS = (".csv", ".parquet")
BAD_INPUT, KILLED = 2, 137


def source_of(given: str, project: Project) -> Path:
    """Return the table that is named. Raise UserError if it is none that a container can be given."""
    if not given:
        raise UserError("IN is empty; expected a table of the clone, as in 'make predict IN=data/new.csv'")
    path = Path(os.path.normpath(project.root / given))
    real = path.resolve()
    seen = [project.root.resolve(), *map(Path, filter(None, os.environ.get("RUNNER_MOUNTS", "").split(":")))]
    if not any(real.is_relative_to(place) for place in seen):
        raise UserError(f"{given} lies outside of the clone; expected a file in it: copy it there")
    if not real.is_file():
        raise UserError(f"{given} is no file; expected a table of rows to predict for: correct IN")
    if path.suffix not in KINDS:
        raise UserError(f"{given} ends in {path.suffix or 'nothing'}; expected {' or '.join(KINDS)}: rename it")
    return path


def target_of(given: str, source: Path, project: Project) -> Path:
    """Return where the predictions go. Raise UserError if something is there, or nothing may be written there."""
    path = Path(os.path.normpath(project.root / given)) if given else source.with_suffix(f".predictions{source.suffix}")
    shown = os.path.relpath(path, project.root)
    if (
        not path.parent.resolve().is_relative_to(project.root.resolve())
        or path.parent.resolve() == project.root.resolve()
    ):
        raise UserError(f"{shown} lies outside of the clone's folders; expected one like data/new.predictions.csv")
    if (top := Path(shown).parts[0]) in NOT_FOR_OUTPUTS:
        raise UserError(f"{shown} lies in {top}; expected another folder: correct OUT")
    if path.suffix != source.suffix:
        raise UserError(
            f"{shown} ends in {path.suffix or 'nothing'}; expected {source.suffix}, as IN does: correct OUT"
        )
    if os.path.lexists(path):
        raise UserError(f"{shown} is there already; expected a new file: delete it, or name another one by OUT=")
    return path


def predict(about: About, kept: Kept, image: Image, source: Path, target: Path) -> dict[str, Any]:
    """Write `target`, and beside it a JSON of what it comes from, which is returned. Raise UserError if that fails."""
    out = kept.folder / f"predict-{os.getpid()}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "about.json").write_text(json.dumps(about))
    made = out / "made"
    made.mkdir()
    try:
        said = json.loads(_run(_command(about, kept, image, source, out), source))
        file = made / f"out{source.suffix}"
        if file.is_symlink() or not file.is_file():
            raise UserError("predict left no file; expected one: look into predict.py of the scorer")
        facts = {
            **{name: about[name] for name in ("model", "version", "sha256")},
            "image": image.tag,
            "input": source.name,
            "input_sha256": str(said["input_sha256"]),
            "rows": int(said["rows"]),
            "output_sha256": sha256(file),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
        atomic_write(target.with_name(f"{target.name}.json"), json.dumps(facts, indent=2) + "\n")
        return facts
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _command(about: About, kept: Kept, image: Image, source: Path, out: Path) -> list[str]:
    name = f"pipeline-{os.environ['CLONE']}-predict-{os.getpid()}"
    command = ["docker", "run", "--rm", "--name", name, *sealed("predict", os.environ["PREDICT_MEMORY"])]
    command += ["--network", "none", "--log-driver", "none"]
    command += mount(kept.folder / about["file"], f"/model/{about['file']}", "readonly")
    command += mount(source.resolve(), f"/in/in{source.suffix}", "readonly")
    command += mount(out / "about.json", "/in/about.json", "readonly")
    command += mount(out / "made", "/out")
    words = ["/in/about.json", "/model", f"/in/in{source.suffix}", f"/out/out{source.suffix}"]
    return [*command, *program(image, "batch"), *words]


def _run(command: list[str], source: Path) -> str:
    """Run the container, show how far it is, and return what it says at its end."""
    name = command[command.index("--name") + 1]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    last = ""
    try:
        with subprocess.Popen(command, errors="replace", **pipes) as client:
            for line in iter(lambda: client.stderr.readline(10_000), ""):
                last = harmless(line.strip("\n")) or last
                if not last.startswith(("error: ", " ", "Traceback")) and last.endswith(("second", "%")):
                    print(last, file=sys.stderr, flush=True)
            said = client.stdout.read(100_000)
    except BaseException:  # the client is gone, its container is not
        stop([name], 1)
        raise
    if client.returncode == BAD_INPUT:
        raise UserError(f"{source.name}: {last.removeprefix('error: ')}")
    if client.returncode == KILLED:
        limit = os.environ["PREDICT_MEMORY"]
        raise UserError(f"it was killed, most likely at its limit of {limit} of memory: raise PREDICT_MEMORY in .env")
    if client.returncode:
        why = f"predict.py of the scorer crashed with exit code {client.returncode}: {last[:300]}"
        raise UserError(f"{why}; expected predictions: mend it")
    return said.strip().splitlines()[-1] if said.strip() else "{}"
