"""What the `predict.py` beside a scorer owes: the functions by which others predict with the model."""

import ast
from collections.abc import Iterator, Mapping

from scripts.contract.finding import Finding
from scripts.contract.names import Program
from scripts.pipeline.stage import Pipeline, block

NAME = "predict.py"
OWED = {"load": 1, "predict": 2}
"""How many arguments each function is called with."""


def check(name: str, programs: Mapping[str, Program], pipeline: Pipeline) -> Iterator[Finding]:
    """Check the programs of a stage's folder, by path; a folder without a predict.py owes nothing."""
    file = f"stages/{name}/{NAME}"
    scorers = {block(model.scorer): model for model in pipeline.models}
    if file not in programs or name not in scorers:
        return
    found = {node.name: node for node in programs[file].tree.body if isinstance(node, ast.FunctionDef)}
    for function, count in OWED.items():
        if function not in found:
            what, why = f"it has no function {function}", f"{NAME} beside a scorer is what predictions are made by"
            yield Finding(file, 1, "predict", what, why, f"define load(path) and predict(model, features) in {NAME}")
        elif not _takes(found[function].args, count):
            what, why = f"{function} cannot be called with {count} arguments", "that is how others call it"
            do = "let it take " + {"load": "the model's path", "predict": "the model and a table of features"}[function]
            yield Finding(file, found[function].lineno, "predict", what, why, do)
    if "sample" in found:
        scorer = pipeline.stages[scorers[name].scorer]
        given = [argument for argument, path in scorer.inputs.items() if path != scorers[name].file]
        yield from _sample(file, found["sample"], given)


def _takes(arguments: ast.arguments, count: int) -> bool:
    places = len(arguments.posonlyargs + arguments.args)
    needed = places - len(arguments.defaults)
    keywords = any(default is None for default in arguments.kw_defaults)
    return needed <= count and (places >= count or arguments.vararg is not None) and not keywords


def _sample(file: str, sample: ast.FunctionDef, given: list[str]) -> Iterator[Finding]:
    """Check that `sample` takes the scorer's inputs but its model, by their names."""
    arguments = sample.args
    known = {argument.arg for argument in arguments.args + arguments.kwonlyargs}
    optional = len(arguments.defaults) + sum(default is not None for default in arguments.kw_defaults)
    lacking = [name for name in given if name not in known and arguments.kwarg is None]
    extra = [name for name in known if name not in given]
    if lacking or len(extra) > optional:
        what = f"sample takes {', '.join(sorted(known)) or 'nothing'}"
        why = f"it is called with the scorer's inputs but the model: {', '.join(given) or 'none'}"
        yield Finding(file, sample.lineno, "predict", what, why, "name its arguments like these")
