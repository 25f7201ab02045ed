"""The sampler in its own container: what it chooses depends on the file and the scores, and on nothing else."""

import math
import os

import pytest

from scripts.sweeps import sampling, spec

pytestmark = [pytest.mark.docker, pytest.mark.deep]
TEXT = """\
parameters:
  fit.depth: [2, 4, null]
  fit.rate: {low: 1.0e-5, high: 0.1, log: true}
  fit.share: {low: 0.1, high: 0.4, step: 0.1}
  fit.leaves: {low: 1, high: 64, log: true}
sampler: tpe
trials: 30
batch: 4
seed: 7
objective: {metric: cv, goal: minimize}
"""


@pytest.fixture(scope="module")
def command():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STAGE_USER", f"{os.getuid()}:{os.getgid()}")
        yield sampling.command(sampling.ensure_image().tag)


def score(point):
    """Return how good a point is: the best has a depth of 4 and a rate of 1e-3. Every seventh or so fails."""
    if point["fit.leaves"] % 7 == 0:
        return None
    return abs(math.log10(point["fit.rate"]) + 3) + (point["fit.depth"] != 4)


def asked(text, command, score=score):
    with sampling.Sampler(spec.parse(text), command) as sampler:
        batches = []
        while batch := sampler.batch():
            batches.append(batch)
            sampler.tell([score(point) for point in batch])
    return batches, sampler.importance


@pytest.mark.parametrize("sampler", spec.SAMPLERS)
def test_the_same_file_and_scores_give_the_same_trials(command, sampler):
    """Asked twice, each sampler chooses the same; another seed gives others, but of a whole grid."""
    text = TEXT.replace("tpe", sampler)
    if sampler == "grid":
        text = text.replace("{low: 1.0e-5, high: 0.1, log: true}", "[1.0e-5, 1.0e-3]").replace(
            "{low: 1, high: 64, log: true}", "[1, 5]"
        )
    batches, importance = asked(text, command)
    assert (batches, importance) == asked(text, command)
    points = [point for batch in batches for point in batch]
    assert len(points) == 30 and [len(batch) for batch in batches] == ([4] * 7 + [2] if sampler == "tpe" else [30])
    assert points != [p for batch in asked(text.replace("seed: 7", "seed: 8"), command)[0] for p in batch]
    assert {point["fit.depth"] for point in points} == {2, 4, None}
    assert {point["fit.share"] for point in points} <= {0.1, 0.2, 0.3, 0.4}
    assert importance.keys() == points[0].keys() and sum(importance.values()) == pytest.approx(1)


def test_a_grid_has_each_point_once(command):
    """All points of a grid are there, in the order of the file, the last parameter changing fastest."""
    text = "parameters: {a.x: [1, 2], a.y: {low: 0.5, high: 1.5, step: 0.5}}\nsampler: grid\n"
    (points,), _ = asked(text + "objective: {metric: m, goal: maximize}\n", command, lambda point: 0.5)
    assert [(point["a.x"], point["a.y"]) for point in points] == [(x, y) for x in (1, 2) for y in (0.5, 1.0, 1.5)]


def test_tpe_learns(command):
    """What TPE tries last is better than what it tries first."""
    batches, importance = asked(TEXT, command)
    found = [score(point) for batch in batches for point in batch]
    scores = [each for each in found if each is not None]
    assert sum(scores[-8:]) / 8 < sum(scores[:8]) / 8
    assert max(importance, key=importance.get) in ("fit.rate", "fit.depth")
