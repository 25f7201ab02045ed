"""Requests in line: each gets its answer, whatever becomes of the others and of what follows an answer."""

import asyncio

import pandas as pd
from model_server.line import Line


class Doubles:
    """Stands for a model that has x twice, and fails on a negative one."""

    def predict(self, features):
        if (features["x"] < 0).any():
            raise RuntimeError("negative")
        return features * 2


async def answers(line, model, numbers):
    """Return what each number's request gets, all of them sent at once: x, or the error's text."""
    asked = [line.predict(model, pd.DataFrame({"x": [number]})) for number in numbers]
    found = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10)
    return [str(result) if isinstance(result, Exception) else result["x"].item() for result in found]


def test_what_follows_an_answer_keeps_nobody_waiting():
    """If the shadow or the log fails after a round, those who wait for the next one are answered all the same."""

    def fail(*_):
        raise RuntimeError("the disk is full")

    async def two_rounds():
        line = Line(lambda: fail)  # what two models answer is two rounds
        return await asyncio.gather(answers(line, Doubles(), [1]), answers(line, Doubles(), [2, 3]))

    assert asyncio.run(two_rounds()) == [[2], [4, 6]]


def test_one_that_fails_spoils_no_other():
    """Of requests that are answered at once, the one at fault hears of it, and the others get their rows."""
    assert asyncio.run(answers(Line(), Doubles(), [1, -1, 2])) == [2, "negative", 4]
