"""The one description of a stage, of a model and of the pipeline they form; dvc.yaml is one view of it."""

import graphlib
import os
import re
import shlex
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from scripts.pipeline import docker_options
from scripts.project import NOTEBOOKS, UserError
from scripts.registry.gate import Gate
from scripts.yaml12 import Block, dump_yaml

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
"""What a stage with a network needs behind a proxy; Docker passes on those that are set."""
NETWORKS = {"none": "none", "internet": "bridge", "mlflow": '"$MLFLOW_NETWORK"'}
WORK = "/work"
"""Where a stage's container has its files."""
IN_RUNNER = 'test "$CLONE" || { echo "error: stages run in the project\'s runner: call \'make run\'"; exit 1; }'
TAKE_OVER = "python -m scripts.pipeline.takeover"
NOT_FOR_OUTPUTS = {".git", ".github", ".dvc", ".local", ".ci", ".devcontainer", ".vscode", "scripts", "stages"}
"""Folders that no stage may write to: what lies there is run, or says what is run, by an editor too."""
JOIN = "@"
"""What DVC puts between the name of a block and the name of a value in the name of a stage."""
GPUS, NONE = re.compile(r"all|[1-9]\d*|device=[\w,-]+"), "none"
SIZE = re.compile(r"[1-9]\d*[kmg]", re.IGNORECASE)
LONGEST = (1 << 17) - 1
"""Bytes of one argument that Linux lets a program be given: a command is one of the shell's."""
Files = Mapping[str, str]


class Mount(NamedTuple):
    """A bind mount: `source` is below the project, `target` below /work; both relative, empty for the top itself."""

    source: str
    target: str
    readonly: bool

    def __str__(self) -> str:
        source, target = f"$PWD/{self.source}".rstrip("/"), f"{WORK}/{self.target}".rstrip("/")
        return f'--mount "type=bind,src={source},dst={target}{",readonly" if self.readonly else ""}"'


@dataclass(frozen=True)
class Stage:
    """A stage: its image, the files it reads and writes by argument, its parameters, and what else it may reach."""

    name: str
    image: str
    inputs: Files = field(default_factory=dict)
    outputs: Files = field(default_factory=dict)
    metrics: Files = field(default_factory=dict)
    plots: Files = field(default_factory=dict)
    network: str = "none"
    env: Sequence[str] = ()
    section: Mapping[str, Any] | None = None  # of params.yaml
    gpus: str | int | None = None
    shm: str | None = None
    tmp: str | None = None
    options: Sequence[str] = ()
    meta: Mapping[str, Any] | None = None  # notes for other tools, which DVC keeps and never reads
    filled_in: str = ""  # arguments that DVC fills in for each value of a foreach

    @property
    def made(self) -> dict[str, Files]:
        """The files that the stage writes, by DVC's word for their kind."""
        return {"outs": self.outputs, "metrics": self.metrics, "plots": self.plots}

    @cached_property
    def written(self) -> dict[str, str]:
        """The files that the stage writes, by argument."""
        return {argument: path for files in self.made.values() for argument, path in files.items()}

    @cached_property
    def folder(self) -> str:
        """The folder below which all outputs lie; empty if there is none."""
        return os.path.commonpath([str(PurePosixPath(path).parent) for path in self.written.values()])

    @property
    def block(self) -> str:
        """The name of its block, which is that of its folder, image and section too: `train@fr` -> `train`."""
        return block(self.name)

    @property
    def prefix(self) -> str:
        """How the names of the stage's limits begin: `my-stage` -> `MY_STAGE`."""
        return prefix(self.name)

    def given(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of limits that only some stages have: what `environ` says of them, else the block.

        Raise UserError for GPUs that Docker would not take.
        """
        limits = {"GPUS": self.gpus, "SHM": self.shm, "TMP": self.tmp}
        names = {f"{self.prefix}_{limit}": str(value) for limit, value in limits.items() if value is not None}
        found = {name: environ.get(name) or value for name, value in names.items()}
        if gpus := found.get(f"{self.prefix}_GPUS"):
            if gpus != NONE and not GPUS.fullmatch(gpus):
                raise UserError(
                    f"{self.prefix}_GPUS is {gpus!r}; expected all, a count, device=0 or {NONE}: correct it in .env"
                )
            # The quotation marks are for Docker, which reads it as a line of CSV.
            found[f"{self.prefix}_GPUS_OPTION"] = "" if gpus == NONE else f'--gpus="{gpus}"'
        return found

    @property
    def work(self) -> str:
        """The folder of its own in which the stage's container works; what it declares is taken over from there."""
        return f".local/work/{self.name}"

    @property
    def output_mount(self) -> Mount:
        """The only mount that the container may write to."""
        return Mount(f"{self.work}/{self.folder}", self.folder, False)

    @property
    def mounts(self) -> list[Mount]:
        """The files that the container sees: the inputs, read-only, and the output folder."""
        return [*(Mount(path, path, True) for path in self.inputs.values()), self.output_mount]

    def check(self) -> None:
        """Raise UserError if the block cannot work as it stands."""
        if self.network not in NETWORKS:
            raise UserError(f"the network is {self.network!r}; expected one of {', '.join(NETWORKS)}")
        if isinstance(self.env, str | Mapping) or not all(re.fullmatch(r"[A-Z][A-Z0-9_]*", e) for e in self.env):
            raise UserError('env holds more than names; expected a list like ["TOKEN"]: values stay in the environment')
        if self.gpus is not None and not GPUS.fullmatch(str(self.gpus)):
            raise UserError(f'gpus is {self.gpus!r}; expected "all", a count, or "device=0": correct it')
        for name, size in (("shm", self.shm), ("tmp", self.tmp)):
            if size is not None and not SIZE.fullmatch(str(size)):
                raise UserError(f'{name} is {size!r}; expected a size like "1g": correct it')
        docker_options.check(self.options)
        if self.meta is not None and not (isinstance(self.meta, Mapping) and all(map(_is_plain, self.meta.items()))):
            raise UserError(f'meta is {self.meta!r}; expected plain values like {{"queue": "gpu"}}: correct it')
        groups = [self.inputs, *self.made.values()]
        if not all(isinstance(files, Mapping) for files in groups):
            raise UserError('a list of files was found; expected {"argument": "path"}')
        arguments = [argument for files in groups for argument in files]
        if twice := {argument for argument in arguments if arguments.count(argument) > 1}:
            raise UserError(f"the argument {twice.pop()} stands for two files; rename one")
        for path in [*self.inputs.values(), *self.written.values()]:
            check_path(path)
        for path in self.written.values():
            if (top := path.partition("/")[0]) in NOT_FOR_OUTPUTS:
                raise UserError(f"the stage writes to {path}; expected another folder than {top}: rename it")
        if not self.written:
            raise UserError("the stage writes nothing; expected at least one of outputs, metrics, plots")
        if not self.folder:
            raise UserError(f"the stage writes to several folders ({', '.join(self.written.values())}); expected one")
        if (length := len(self.command().encode())) > LONGEST:
            raise UserError(
                f"the command that gives it its {len(self.inputs)} inputs has {length} bytes; expected no more than "
                f"{LONGEST}, as Linux takes them: let it read a folder that several of them lie in"
            )

    def docker_run(
        self,
        mounts: Sequence[Mount],
        *,
        parameters: str,
        options: str = "",
        network: str | None = None,
        env: Sequence[str] | None = None,
        label: str = "pipeline.stage",
        before: str = "",
    ) -> str:
        """Return the `docker run` of the stage with these mounts, as a shell command of several lines.

        `parameters` are the words of the stage's section, `before` goes before all arguments. The container may do
        nothing that a plain program need not do, and the engine keeps no second copy of what it prints. Limits and
        networks come from the environment: to change them reruns nothing.
        """
        network, env = network or self.network, self.env if env is None else env
        files = {**self.inputs, **self.written}
        lines = [
            f"docker run {options} --rm --init --pull never --log-driver none".replace("  ", " "),
            f'--label "pipeline.clone=$CLONE" --label {label}={self.name}',
            f'--user "$STAGE_USER" --read-only --tmpfs {self._tmp} --cap-drop ALL --security-opt no-new-privileges',
            f'--memory "${self.prefix}_MEMORY" --cpus "${self.prefix}_CPUS" --pids-limit "${self.prefix}_PIDS" '
            f"--network {NETWORKS[network]}",
            " ".join(f"--env {variable}" for variable in env),
            " ".join(f"--env {variable}" for variable in PROXIES) if network != "none" else "",
            f"${self.prefix}_GPUS_OPTION" if self.gpus is not None else "",
            f'--shm-size "${self.prefix}_SHM"' if self.shm is not None else "",
            shlex.join(self.options),
            *map(str, mounts),
            self.image,
            before,
            *(f"--{argument} {shlex.quote(path)}" for argument, path in files.items()),
            parameters,
        ]
        return " \\\n  ".join(filter(None, lines))

    @property
    def _tmp(self) -> str:
        return "/tmp" if self.tmp is None else f'"/tmp:size=${self.prefix}_TMP"'

    def in_time(self, docker_run: str) -> str:
        """Return the command that ends after the stage's time limit.

        A client that is told to end stops its container; one that must be killed leaves it to the run.
        """
        return f'timeout --foreground --kill-after 10 "${self.prefix}_TIMEOUT" \\\n  {docker_run}'

    def command(self) -> str:
        """Return the `docker run` of dvc.yaml, as a person would type it; DVC fills in the parameters."""
        section = "" if self.section is None else f"${{{self.block}}}"
        parameters = " ".join(filter(None, [section, self.filled_in]))
        return self.in_time(self.docker_run(self.mounts, parameters=parameters))

    def commands(self) -> list[str]:
        """Return the three commands of dvc.yaml: an empty folder, the `docker run`, and taking the outputs over.

        The first one also ends what was called without the runner's settings, as by `dvc repro` on the host.
        """
        inside = [path for path in self.inputs.values() if path.startswith(f"{self.folder}/")]
        folders = dict.fromkeys(f"{self.work}/{folder}" for folder in [self.folder, *map(os.path.dirname, inside)])
        empty = f"{IN_RUNNER}\nrm -rf {self.work} && mkdir -p {shlex.join(folders)}"
        taking_over = f"{TAKE_OVER} {self.name} {shlex.join(self.written.values())}"
        return [Block(empty), Block(self.command()), taking_over]

    def as_yaml(self, values: Mapping[str, Any] | None = None) -> str:
        """Return the block of dvc.yaml, indented to stand below `stages:`; with the `values` of a foreach or matrix."""
        found: dict[str, Any] = {"cmd": self.commands()}
        if self.inputs:
            found["deps"] = list(self.inputs.values())
        if self.section is not None:
            found["params"] = [self.block]
        if self.meta:
            found["meta"] = dict(self.meta)
        for kind, files in self.made.items():
            if files:
                # persist: 'dvc repro' on the host, as an editor calls it, deletes no output before it is told so
                found[kind] = [{path: {"persist": True}} for path in files.values()]
        if values is not None:
            found = {**values, "do": found} if "foreach" in values else {**values, **found}
        return _yaml_below({self.block: found})


@dataclass(frozen=True)
class Model:
    """A model: a file or folder that one stage (`maker`) writes and another one (`scorer`) measures."""

    name: str  # in the registry
    file: str
    metrics: str  # JSON of the scorer
    maker: str
    scorer: str
    experiment: str
    gate: Gate
    rows: str | None = None  # CSV of the scorer: a row an example, with a column `score`
    loader: str | None = None  # Python file with _load_pyfunc(path)
    signature: str | None = None  # JSON of the maker, in MLflow's form

    def as_yaml(self) -> str:
        """Return the entry of dvc.yaml, indented to stand below `artifacts:`."""
        return _yaml_below({self.name: {"path": self.file, "type": "model"}})


def _yaml_below(entry: Mapping[str, Any]) -> str:
    return textwrap.indent(dump_yaml(entry, width=10_000), "  ").rstrip()


@dataclass(frozen=True)
class Pipeline:
    """The stages and models of the template, in its order, with the text of dvc.yaml.

    `plots` is dvc.yaml's own top-level section.
    """

    text: str
    stages: Mapping[str, Stage]
    models: Sequence[Model] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    plots: Sequence[Any] = ()

    @cached_property
    def _needs(self) -> dict[str, list[str]]:
        """The stages that each one waits for: they write a file it reads, something below it, or a folder around it."""
        made, around = defaultdict(list), defaultdict(list)
        for stage in self.stages.values():
            for path in stage.written.values():
                made[PurePosixPath(path)].append(stage.name)
                for folder in PurePosixPath(path).parents:
                    around[folder].append(stage.name)
        found = {}
        for stage in self.stages.values():
            makers: list[str] = []
            for path in map(PurePosixPath, stage.inputs.values()):
                makers += [name for place in (path, *path.parents) for name in made.get(place, [])]
                makers += around.get(path, [])
            found[stage.name] = list(dict.fromkeys(makers))
        return found

    def given(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of limits that only some stages have (see `Stage.given`)."""
        return {name: value for stage in self.stages.values() for name, value in stage.given(environ).items()}

    def needs(self, name: str) -> list[str]:
        """Return the stages whose files the stage reads."""
        return self._needs[name]

    def leading_to(self, name: str) -> list[str]:
        """Return the stage and all that it depends on, in the order of the template."""
        found, left = set(), [name]
        while left:
            stage = left.pop()
            if stage not in found:
                found.add(stage)
                left += self.needs(stage)
        return [stage for stage in self.stages if stage in found]

    @property
    def paths(self) -> list[str]:
        """The files that stages read and write."""
        files = [path for stage in self.stages.values() for path in (*stage.inputs.values(), *stage.written.values())]
        return sorted(set(files))

    def models_of(self, targets: Sequence[str]) -> list[Model]:
        """Return the models that `targets` (none: all stages) make or score."""
        return [model for model in self.models if not targets or {model.maker, model.scorer} & set(targets)]

    def with_scorers(self, targets: Sequence[str]) -> list[str]:
        """Return `targets` and the scorers of the models that they make, as a run takes them; none stays none."""
        scorers = [model.scorer for model in self.models_of(targets)] if targets else []
        return list(dict.fromkeys([*targets, *scorers]))

    def check_order(self) -> None:
        """Raise UserError if stages wait for each other's outputs, so that none could begin."""
        try:
            graphlib.TopologicalSorter(self._needs).prepare()
        except graphlib.CycleError as error:
            circle = " -> ".join(error.args[1])
            raise UserError(f"the stages {circle} wait for each other; expected no circle: change an input") from None


def _is_plain(item: tuple[object, object]) -> bool:
    """Return whether a name and its value stay what they are in dvc.yaml, where ${...} would be filled in."""
    name, value = item
    texts = [text for text in item if isinstance(text, str)]
    return isinstance(name, str) and isinstance(value, str | int | float) and not any("${" in text for text in texts)


def block(stage: str) -> str:
    """Return the name of a stage's block: `train@fr` -> `train`."""
    return stage.partition(JOIN)[0]


def prefix(stage: str) -> str:
    """Return how the names of a stage's limits begin: `my-stage` -> `MY_STAGE`."""
    return block(stage).upper().replace("-", "_")


def check_path(path: object) -> None:
    """Raise UserError if `path` is not one like folder/file inside the clone."""
    if str(path).startswith(f"{NOTEBOOKS}/"):
        raise UserError(
            f"the path is {path!r}, and what a notebook writes is in no run; expected one outside of {NOTEBOOKS}/: "
            "move the file"
        )
    parts = PurePosixPath(str(path)).parts  # str: an unknown name of the template says so here
    if not isinstance(path, str) or path.startswith("/") or ".." in parts or len(parts) < 2 or path != "/".join(parts):
        found = False
    else:
        found = re.fullmatch(r"[\w./ +=@-]+", path)
    if not found:
        raise UserError(
            f"the path is {path!r}; expected one like folder/file inside the clone, of letters, digits, spaces and "
            "._+=@-"
        )
