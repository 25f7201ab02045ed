"""What people read of a model in MLflow's pages says what is known, and never writes over what a person wrote."""

from dataclasses import replace

import pytest

from scripts.registry import cards, datasets
from scripts.registry.cards import About
from scripts.registry.gate import Gate
from scripts.registry.stage_files import Table

ROWS = Table(["width", "species"], [["0.5", "setosa"], ["1.5", "virginica"], ["2.5", "virginica"]])
DATA = [
    datasets.Dataset("train_csv", "data/train.csv", "1" * 32, "training", datasets.seen(ROWS)),
    datasets.Dataset("test_csv", "data/test.csv", "2" * 32, "testing", datasets.seen(ROWS)),
    datasets.Dataset("folder", "data/x", f"{'3' * 32}.dir", "testing"),
]
ABOUT = About(
    model="iris-classifier",
    maker="train",
    scorer="evaluate",
    place="model/model.skops",
    gate=Gate("accuracy", min_score=0.5, confidence=0.95),
    commit="abcdef0123456789",
    dirty=True,
    repository="https://github.com/me/iris",
    loads=True,
    metrics={"log_loss": 0.25, "accuracy": 0.9},
    data=DATA,
    inputs=[{"name": "width", "type": "double"}],
    outputs=[{"name": "species", "type": "string"}],
    example={"width": 1.5},
)


def test_a_run_is_described():
    """What, code, decision, scores (the gate's first), data, and how to load it."""
    text = cards.of_run(ABOUT, "3", "Production", "better than production")
    for part in (
        r"**iris\-classifier version 3**, made by the stage train, scored by evaluate",
        "[abcdef012345](https://github.com/me/iris/tree/abcdef0123456789) and the changes in",
        "**Decision when it came**: Production: better than production",
        "| accuracy | 0.9 |\n| log\\_loss | 0.25 |",
        f"| training: train\\_csv | data/train\\.csv | 3 | {'1' * 32} |",
        'mlflow.pyfunc.load_model("models:/iris-classifier/3")\nmodel.predict([{"width": 1.5}])',
    ):
        assert part in text


def test_a_model_has_a_card():
    """Task and classes, what it reads and gives, limits, training data, use; the project's words come first."""
    text = cards.of_model(replace(ABOUT, own="# Iris\n\nFor lessons.\n"), "3")
    assert text.startswith("# Iris\n\nFor lessons.\n\n**Task**: to tell species, one of 2 classes")
    for part in (
        "(rows of training): setosa (1), virginica (2)",
        "**Gives**: species string",
        "**Reads**: width double",
        "- its accuracy is 0.9 on 3 rows of the test data below; of other data nothing is known",
        "- it knows these classes alone",
        "better on the same test data, with a confidence of 0.95 by a paired test",
        "- none does whose accuracy is below 0.5",
        'load_model("models:/iris-classifier@production")',
    ):
        assert part in text


def test_what_is_not_known_is_left_out():
    """A model without loader, signature, scores and tables has a text all the same."""
    bare = replace(
        ABOUT, loads=False, metrics={}, data=[], inputs=[], outputs=[], example=None, repository="", dirty=False
    )
    for text in (cards.of_run(bare, "1", "Staging", "it cannot be scored"), cards.of_model(bare, "1")):
        assert "download_artifacts" in text and "model.skops is the model" in text and "| metric |" not in text
        assert "commit abcdef012345." in text


def test_a_persons_words_stay():
    """A text is the pipeline's only while it is as the pipeline left it."""
    text = cards.of_run(ABOUT, "3", "Production", "why")
    assert cards.is_ours(text) and cards.is_ours("") and cards.is_ours(None) and cards.is_ours(" \n")
    for edited in (f"{text} ", text.replace("0.9", "0.91"), "Mine.", text + "\n\nAnd this.", text[1:]):
        assert not cards.is_ours(edited)


@pytest.mark.parametrize("text", ["a | b", "<script>x</script>", "[a](https://x.test)", "@all", "`x`", "n" * 99_999])
def test_a_strangers_words(text):
    """Whatever stages and a registry call things, it is text there, and a server takes its length."""
    table = datasets.seen(Table([text, "x"], [[text, "1"]] * 3))
    many = [datasets.Dataset(text, text, "1" * 32, "training", table)] * 50
    about = replace(ABOUT, metrics=dict.fromkeys([text, *map(str, range(1000))], 1.0), data=many, own="")
    about = replace(about, inputs=[{"name": "x", "type": text}] * 500, outputs=[{"name": text, "type": text}])
    for found in (cards.of_run(about, "1", text, text), cards.of_model(about, "1")):
        assert len(found) <= 5000 and cards.is_ours(found)
        assert "<script" not in found and "](https://x.test" not in found and "@all" not in found
