"""Chooses the trials of a sweep, batch by batch, by lines of JSON on standard input and output.

First it reads what the sweep is:

    {"parameters": {NAME: {"choices": COUNT} or {"low", "high", "step", "log"}}, "sampler", "trials", "batch", "seed",
     "goal": "maximize" or "minimize"}

Then it prints {"batch": [{NAME: number}, ...]}, of a list the number of the value in it, and reads a score for each,
null if it has none; and so on, and last of all {"importance": {NAME: share}}. The same scores give the same batches,
whenever they come: a sweep that goes on after a kill asks again and answers what it knows.
"""

import itertools
import json
import random
import sys
import warnings
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

Point = dict[str, float]


def distribution(space: dict[str, Any]) -> BaseDistribution:
    if "choices" in space:
        return CategoricalDistribution([*range(space["choices"])])
    low, high, step, log = space["low"], space["high"], space["step"], space["log"]
    if isinstance(low, int):
        return IntDistribution(low, high, log=log, step=step or 1)
    return FloatDistribution(low, high, log=log, step=step)


def ask(line: object) -> Any:
    """Print a line of JSON; return what the next line of standard input holds, none at its end."""
    print(json.dumps(line), flush=True)
    return answer()


def answer() -> Any:
    if not (line := sys.stdin.readline()):
        sys.exit(0)  # whoever asked has gone
    return json.loads(line)


def told(points: list[Point], distributions: dict[str, BaseDistribution], scores: list[Any]) -> list[FrozenTrial]:
    """Return trials with these results."""
    return [
        create_trial(
            params=point,
            distributions=distributions,
            value=score,
            state=TrialState.FAIL if score is None else TrialState.COMPLETE,
        )
        for point, score in zip(points, scores, strict=True)
    ]


def grid(sweep: dict[str, Any]) -> list[Point]:
    """Return all points, the last parameter changing fastest; if there are fewer trials, as many that are drawn."""
    names = [*sweep["parameters"]]
    counts = [range(sweep["parameters"][name]["choices"]) for name in names]
    points = [dict(zip(names, point, strict=True)) for point in itertools.product(*counts)]
    few = sweep["trials"] < len(points)
    return random.Random(sweep["seed"]).sample(points, sweep["trials"]) if few else points


def choose(sweep: dict[str, Any], study: optuna.Study, distributions: dict[str, BaseDistribution]) -> None:
    """Ask for one batch after the other, and tell the study what came of it."""
    if sweep["sampler"] == "grid":
        points = grid(sweep)
        study.add_trials(told(points, distributions, ask({"batch": points})))
        return
    # What is drawn at random needs no result: all of it is one batch.
    size = sweep["batch"] if sweep["sampler"] == "tpe" else sweep["trials"]
    for begin in range(0, sweep["trials"], size):
        trials = [study.ask(distributions) for _ in range(min(size, sweep["trials"] - begin))]
        scores = ask({"batch": [trial.params for trial in trials]})
        for trial, score in zip(trials, scores, strict=True):
            study.tell(trial, score, state=TrialState.FAIL if score is None else TrialState.COMPLETE)


def importance(study: optuna.Study) -> dict[str, float]:
    """Return each parameter's share in what makes the better half better; nothing if that cannot be said."""
    scores = {trial.value for trial in study.get_trials(states=[TrialState.COMPLETE])}
    if len(scores) < 2:
        return {}
    return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=0.5))


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore")
    sweep = answer()
    distributions = {name: distribution(space) for name, space in sweep["parameters"].items()}
    # While a batch is chosen, those of it that have no score yet count as bad: the next one lies elsewhere.
    sampler = TPESampler(seed=sweep["seed"], constant_liar=True)
    if sweep["sampler"] != "tpe":
        sampler = RandomSampler(seed=sweep["seed"])
    study = optuna.create_study(sampler=sampler, direction=sweep["goal"])
    choose(sweep, study, distributions)
    print(json.dumps({"importance": importance(study)}), flush=True)


if __name__ == "__main__":
    main()
