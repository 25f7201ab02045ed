"""Lines of a stage that hold metrics, told apart from all other lines."""

import math

import pytest

from scripts.pipeline.live_metrics import MOST, LiveMetric, parse


@pytest.mark.parametrize(
    ("line", "values", "step"),
    [
        ("::metric loss=0.31 accuracy=0.9 step=12", {"loss": 0.31, "accuracy": 0.9}, 12),
        ("::metric step=3 loss=1", {"loss": 1}, 3),
        ("::metric loss=5", {"loss": 5}, 0),
        ("::metric  loss=-1.5e-3\tstep=1 ", {"loss": -0.0015}, 1),
        ("::metric val/per_class.a-b=.5", {"val/per_class.a-b": 0.5}, 0),
        ("::metric loss=1. other=+2E3", {"loss": 1, "other": 2000}, 0),
        ("::metric verlust_ü=1", {"verlust_ü": 1}, 0),
        (f"::metric loss=1 step={2**63 - 1}", {"loss": 1}, 2**63 - 1),
        ("::metric loss=0 loss=1", {"loss": 1}, 0),
    ],
)
def test_a_line_of_metrics_is_read(line, values, step):
    """Names and numbers at a step, which is 0 if it is not there, in any order and with any spaces between them."""
    assert parse(line) == LiveMetric(values, step)


@pytest.mark.parametrize("text", ["inf", "-inf", "Infinity", "+INF"])
def test_infinity_is_a_number(text):
    """A loss that grows beyond all bounds is logged as such."""
    assert math.isinf(parse(f"::metric loss={text}").values["loss"])


@pytest.mark.parametrize("text", ["nan", "NaN", "-nan"])
def test_nan_is_a_number(text):
    """A loss that is no number any more is logged as such, so that its curve shows it."""
    assert math.isnan(parse(f"::metric loss={text}").values["loss"])


@pytest.mark.parametrize(
    "line",
    [
        "loss=0.31 step=12",
        " ::metric loss=1",
        "::metrics loss=1",
        "::metric:loss=1",
        "::metric",
        "::metric ",
        "::metric step=1",
        "::metric loss",
        "::metric loss=",
        "::metric loss = 1",
        "::metric =1",
        "::metric loss=one",
        "::metric loss=0x10",
        "::metric loss=5_1",
        "::metric loss=1,5",
        "::metric loss=1e",
        "::metric loss=٣",
        "::metric loss=1e999",
        "::metric loss=" + "9" * 400,
        "::metric loss=1 other=x",
        "::metric lo$s=1",
        "::metric loss;rm=1",
        "::metric lo\x1b[31mss=1",
        "::metric lo\u202ess=1",
        "::metric loss=1\x1b[31m",
        "::metric loss=1\x00",
        "::metric " + "x" * 101 + "=1",
        "::metric loss=1 step=-1",
        "::metric loss=1 step=1.0",
        "::metric loss=1 step=1e3",
        "::metric loss=1 step=",
        "::metric loss=1 step=٣",
        f"::metric loss=1 step={2**63}",
        "::metric loss=1 step=" + "9" * 5000,
        "::metric " + " ".join(f"m{number}=1" for number in range(MOST + 1)),
    ],
)
def test_any_other_line_is_an_ordinary_one(line):
    """What is not exactly a line of metrics is shown as it came, and nothing of it is logged."""
    assert parse(line) is None


def test_a_line_may_hold_many_values_but_not_any_number():
    """The bound is on the values of one line; a stage may print as many lines as it likes."""
    assert len(parse("::metric " + " ".join(f"m{number}=1" for number in range(MOST))).values) == MOST


def test_a_metric_is_shown_as_it_was_printed():
    """What is shown of a line has its names, its values and its step, and no mark."""
    assert str(LiveMetric({"loss": 0.3125, "acc": 1.0}, 7)) == "loss=0.3125 acc=1 step=7"
