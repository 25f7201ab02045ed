import json
import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_score

import loader
import skops_model
import train
from stagekit import BadInput

SMALL = {"n_estimators": 5, "max_depth": None, "min_samples_leaf": 1, "max_features": 0.5, "seed": 1}


@pytest.fixture(scope="module")
def iris() -> pd.DataFrame:
    """The 150 flowers, in the columns that the stage reads."""
    data = load_iris(as_frame=True)
    return data.data.assign(species=data.target_names[data.target])


@pytest.fixture
def args(tmp_path, iris):
    """Arguments of the stage for two thirds of the flowers; a call changes some of them."""
    iris.drop(index=range(0, 150, 3)).to_csv(tmp_path / "train.csv", index=False)

    def make(folder: str = "models", **changes) -> train.TrainArgs:
        names = {"model": "model.skops", "signature": "signature.json", "training": "training.csv"}
        names |= {"cv": "cv.json", "folds_csv": "folds.csv"}
        outputs = {argument: tmp_path / folder / name for argument, name in names.items()}
        return train.TrainArgs(train_csv=tmp_path / "train.csv", **outputs, **(SMALL | {"folds": 3} | changes))

    return make


def accuracy(model, frame: pd.DataFrame) -> float:
    return float((model.predict(frame.drop(columns="species")) == frame["species"]).mean())


def test_a_forest_knows_flowers_it_has_not_seen(iris):
    """A small forest names the species of at least nine in ten flowers that it has not seen."""
    model, _ = train.fit(iris.drop(index=range(0, 150, 3)), **SMALL)
    assert accuracy(model, iris.iloc[::3]) >= 0.9
    assert list(model.classes_) == ["setosa", "versicolor", "virginica"]


def test_hyperparameters_reach_the_forest(iris):
    """Each hyperparameter is the forest's, and the seed is its random state."""
    model, _ = train.fit(iris, n_estimators=7, max_depth=2, min_samples_leaf=3, max_features=0.25, seed=9)
    wanted = {"n_estimators": 7, "max_depth": 2, "min_samples_leaf": 3, "max_features": 0.25, "random_state": 9}
    assert {name: model.get_params()[name] for name in wanted} == wanted


@pytest.mark.parametrize("trees", [1, 7, 25])
def test_growing_changes_nothing(tmp_path, iris, trees):
    """A forest that is measured as it grows is the same, to the byte, as one that is fitted at once."""
    model, _ = train.fit(iris, **(SMALL | {"n_estimators": trees}))
    at_once = RandomForestClassifier(n_estimators=trees, max_features=0.5, random_state=1)
    at_once.fit(iris.drop(columns="species"), iris["species"])
    for name, forest in (("grown", model), ("at once", at_once)):
        skops_model.save(forest, tmp_path / name)
    assert (tmp_path / "grown").read_bytes() == (tmp_path / "at once").read_bytes()


@pytest.mark.parametrize(
    ("trees", "steps"),
    [(1, [1]), (3, [1, 2, 3]), (25, [3, 5, 8, 10, 13, 15, 18, 20, 23, 25]), (100, range(10, 101, 10))],
)
def test_growth_is_printed_step_by_step(iris, capsys, trees, steps):
    """A forest is measured at most ten times as it grows, last when it is whole; each is a line and a row."""
    _, growth = train.fit(iris, **(SMALL | {"n_estimators": trees}))
    assert list(growth) == ["step", "train_accuracy", "oob_accuracy"]
    assert growth["step"].tolist() == list(steps)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        f"::metric train_accuracy={row.train_accuracy} oob_accuracy={row.oob_accuracy} step={row.step}"
        for row in growth.itertuples()
    ]


def test_growth_is_what_scikit_learn_measures(iris):
    """The accuracies of the whole forest are scikit-learn's own: on the rows, and out of bag."""
    _, growth = train.fit(iris, **(SMALL | {"n_estimators": 50}))
    forest = RandomForestClassifier(n_estimators=50, max_features=0.5, random_state=1, oob_score=True)
    forest.fit(iris.drop(columns="species"), iris["species"])
    assert growth["train_accuracy"].iloc[-1] == pytest.approx(accuracy(forest, iris))
    assert growth["oob_accuracy"].iloc[-1] == pytest.approx(forest.oob_score_)


def test_growth_takes_no_memory_for_each_tree(iris):
    """What is measured of a growing forest takes as much memory with a hundred trees as with one: no rows x trees."""
    rows = pd.concat([iris] * 100)
    forest = RandomForestClassifier(n_estimators=100, max_depth=1, random_state=1)
    forest.fit(rows.drop(columns="species"), rows["species"])
    votes = train.Votes(rows.drop(columns="species"), rows["species"])
    tracemalloc.start()
    try:
        votes.count(forest)
        assert tracemalloc.get_traced_memory()[1] < 20 * 8 * len(rows)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_estimators", 0),
        ("n_estimators", 10_001),
        ("max_depth", 0),
        ("min_samples_leaf", 0),
        ("max_features", 0),
        ("max_features", 1.01),
        ("seed", -1),
        ("seed", 2**32),
        ("folds", 1),
        ("bootstrap", True),
    ],
)
def test_values_out_of_range_are_refused(args, name, value):
    """A hyperparameter that is out of range or unknown is refused by its name."""
    with pytest.raises(ValidationError, match=name):
        args(**{name: value})


def test_the_signature_names_features_and_prediction(args, iris):
    """The signature has a column of floating-point numbers for each feature, in their order, and a string comes out."""
    options = args()
    train.main(options)
    signature = json.loads(options.signature.read_text())
    inputs, outputs = (json.loads(signature[key]) for key in ("inputs", "outputs"))
    assert inputs == [{"type": "double", "name": name, "required": True} for name in iris.columns[:4]]
    assert outputs == [{"type": "string", "required": True}]


def test_the_loader_gives_the_model_back(args, iris):
    """What MLflow loads by loader.py predicts a species for each row, as the model that was saved does."""
    options = args()
    train.main(options)
    features = iris.drop(columns="species")
    predicted = loader._load_pyfunc(str(options.model)).predict(features)
    np.testing.assert_array_equal(predicted, skops_model.load(options.model).predict(features))
    assert set(predicted) == {"setosa", "versicolor", "virginica"}


def test_the_same_arguments_give_the_same_bytes(args):
    """Trained twice, all files are the same byte by byte; another seed gives another model."""
    for folder, seed in (("one", 1), ("two", 1), ("three", 2)):
        train.main(args(folder, seed=seed))
    one, two, three = (args(folder).model.parent for folder in ("one", "two", "three"))
    files = sorted(path.name for path in one.iterdir())
    assert files == ["cv.json", "folds.csv", "model.skops", "signature.json", "training.csv"]
    assert [(one / name).read_bytes() == (two / name).read_bytes() for name in files] == [True] * 5
    assert (one / "model.skops").read_bytes() != (three / "model.skops").read_bytes()


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_how_many_rows_are_taken_at_once_changes_no_byte(args, monkeypatch, rows):
    """However many rows a tree votes on at once, all files are the same byte by byte."""
    for folder, at_once in (("whole", 10_000), ("parts", rows)):
        monkeypatch.setattr(train, "ROWS", at_once)
        train.main(args(folder))
    whole, parts = (args(folder).model.parent for folder in ("whole", "parts"))
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == {
        path.name: path.read_bytes() for path in parts.iterdir()
    }


def test_numbers_have_six_decimals_at_most(args):
    """What is written of the growth has no digit that differs from one processor to another."""
    options = args(n_estimators=30)
    train.main(options)
    table = pd.read_csv(options.training)
    assert table.equals(table.round(6)) and not math.isnan(table["oob_accuracy"].iloc[-1])


def test_the_cross_validated_score_is_scikit_learns(args, iris):
    """Each fold is scored by a forest that has not seen it, and the score is the mean."""
    options = args(folds=4)
    train.main(options)
    rows = pd.read_csv(options.train_csv)
    forest = RandomForestClassifier(n_estimators=5, max_features=0.5, random_state=1)
    parts = StratifiedKFold(4, shuffle=True, random_state=1)
    expected = cross_val_score(forest, rows.iloc[:, :-1], rows["species"], cv=parts)
    folds = pd.read_csv(options.folds_csv)
    assert folds["accuracy"].tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert (folds["fold"].tolist(), folds["rows"].sum()) == ([1, 2, 3, 4], len(rows))
    found = json.loads(options.cv.read_text())
    assert found["cv_accuracy"] == round(expected.mean(), 6) and found["cv_std"] > 0


def test_more_folds_than_rows_are_refused(iris):
    """If a class has fewer rows than there are folds, a sentence names it."""
    with pytest.raises(BadInput, match=r"train.folds is 5, and virginica has 3 rows to train with; expected no more"):
        train.cross_validated(iris.iloc[:103], 5, **SMALL)
