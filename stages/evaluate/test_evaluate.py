import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import roc_auc_score, roc_curve

import evaluate
import skops_model
from stagekit import BadInput

CSVS = {
    "rows": ["score"],
    "confusion": ["actual", "predicted"],
    "roc": ["class", "fpr", "tpr", "auc"],
    "importance": ["feature", "importance", "importance_std"],
}


class Oracle:
    """A model whose features are the probabilities that it gives."""

    classes_ = np.array(["a", "b", "c"])

    def predict_proba(self, features: pd.DataFrame) -> np.ndarray:
        return features.to_numpy()

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        return self.classes_[features.to_numpy().argmax(axis=1)]


TRUTH = pd.Series(["a", "a", "b", "b", "c"])
PREDICTED = ["a", "b", "b", "b", "a"]
PROBABILITIES = pd.DataFrame(
    [[0.8, 0.1, 0.1], [0.25, 0.5, 0.25], [0.25, 0.5, 0.25], [0.1, 0.8, 0.1], [0.5, 0.25, 0.25]], columns=list("abc")
)


@pytest.fixture(scope="module")
def iris() -> pd.DataFrame:
    """Every third flower, as a test set."""
    data = load_iris(as_frame=True)
    return data.data.assign(species=data.target_names[data.target]).iloc[::3]


@pytest.fixture(scope="module")
def forest() -> RandomForestClassifier:
    """A small forest, fitted on the flowers that are not in the test set, that errs on some."""
    data = load_iris(as_frame=True)
    train = data.data.assign(species=data.target_names[data.target]).drop(index=range(0, 150, 3))
    model = RandomForestClassifier(n_estimators=3, max_depth=2, random_state=1)
    return model.fit(train.drop(columns="species"), train["species"])


@pytest.fixture
def measure(tmp_path, iris, forest):
    """Runs the stage on the forest and gives the files that it wrote."""
    skops_model.save(forest, tmp_path / "model.skops")
    iris.to_csv(tmp_path / "test.csv", index=False)

    def run(folder: str, seed: int = 1) -> dict[str, bytes]:
        outputs = {name: tmp_path / folder / f"{name}.csv" for name in CSVS}
        evaluate.main(
            evaluate.EvaluateArgs(
                model=tmp_path / "model.skops",
                test_csv=tmp_path / "test.csv",
                metrics=tmp_path / folder / "metrics.json",
                **outputs,
                importance_repeats=3,
                seed=seed,
            )
        )
        return {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}

    return run


def test_scores_are_what_one_computes_by_hand():
    """Accuracy, precision, recall, F1, log loss and confusion matrix are the textbook's, 0 for a class never told."""
    measured = evaluate.scores(Oracle(), PROBABILITIES, TRUTH)
    assert measured["rows"] == 5
    assert measured["classes"] == ["a", "b", "c"]
    assert measured["confusion_matrix"] == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert measured["accuracy"] == pytest.approx(3 / 5)
    assert measured["per_class"] == {
        "a": pytest.approx({"precision": 1 / 2, "recall": 1 / 2, "f1": 1 / 2}),
        "b": pytest.approx({"precision": 2 / 3, "recall": 1, "f1": 4 / 5}),
        "c": pytest.approx({"precision": 0, "recall": 0, "f1": 0}),
    }
    assert measured["precision_macro"] == pytest.approx((1 / 2 + 2 / 3) / 3)
    assert measured["recall_macro"] == pytest.approx((1 / 2 + 1) / 3)
    assert measured["f1_macro"] == pytest.approx((1 / 2 + 4 / 5) / 3)
    assert measured["log_loss"] == pytest.approx(-math.log(0.8 * 0.25 * 0.5 * 0.8 * 0.25) / 5)


def test_scores_of_a_perfect_model():
    """A model that is right and sure has the best score everywhere."""
    measured = evaluate.scores(Oracle(), pd.DataFrame(np.eye(3), columns=list("abc")), pd.Series(["a", "b", "c"]))
    assert measured["log_loss"] == pytest.approx(0)
    assert {measured[name] for name in ("accuracy", "precision_macro", "recall_macro", "f1_macro")} == {1}
    assert measured["confusion_matrix"] == np.eye(3).tolist()


def test_each_test_row_has_its_score():
    """A row whose class the model names scores 1, any other 0, in the order of the test set."""
    assert evaluate.hits(Oracle(), PROBABILITIES, TRUTH).to_dict("list") == {"score": [1, 0, 1, 1, 0]}


def test_confusion_has_a_row_a_test_row():
    """Each test row stands there with its own class and the one that it was taken for, in the order of the test set."""
    table = evaluate.confusion(Oracle(), PROBABILITIES, TRUTH)
    assert table.to_dict("list") == {"actual": TRUTH.tolist(), "predicted": PREDICTED}


def test_roc_of_one_class_by_hand():
    """A class's curve goes through the rates that its thresholds give."""
    table = evaluate.roc(Oracle(), PROBABILITIES, TRUTH)
    curve = table[table["class"] == "b"]
    points = set(zip(curve["fpr"].round(6), curve["tpr"].round(6), strict=True))
    assert points >= {(0, 0), (0, 0.5), (round(1 / 3, 6), 1), (1, 1)}


def test_roc_curves_rise_from_0_to_1(iris, forest):
    """Each class has a curve whose rates lie in [0, 1], never fall, begin at 0 and end at 1."""
    table = evaluate.roc(forest, iris.drop(columns="species"), iris["species"])
    assert set(table["class"]) == set(iris["species"])
    for _, curve in table.groupby("class"):
        for rate in (curve["fpr"], curve["tpr"]):
            assert rate.between(0, 1).all() and rate.is_monotonic_increasing
            assert (rate.iloc[0], rate.iloc[-1]) == (0, 1)


def test_each_of_four_classes_has_scikit_learns_curve():
    """Of four classes there are four curves, each with the points and the area that scikit-learn gives for it."""
    random = np.random.default_rng(1)
    model = Oracle()
    model.classes_ = np.array(list("abcd"))
    truth = pd.Series(random.choice(model.classes_, 200))
    probabilities = random.dirichlet(np.ones(4), 200) + 0.3 * (truth.to_numpy()[:, None] == model.classes_)
    table = evaluate.roc(model, pd.DataFrame(probabilities, columns=model.classes_), truth)
    assert table["class"].unique().tolist() == list("abcd")
    for place, (label, curve) in enumerate(table.groupby("class")):
        fpr, tpr, _ = roc_curve(truth == label, probabilities[:, place])
        assert curve["fpr"].tolist() == fpr.tolist() and curve["tpr"].tolist() == tpr.tolist()
        assert curve["auc"].unique() == pytest.approx([roc_auc_score(truth == label, probabilities[:, place])])


def test_importance_is_sorted_and_tells_what_counts():
    """The feature that decides comes first, and one that the model never looks at has importance 0."""
    frame = pd.DataFrame({"dull": 0.0, "telling": np.arange(20.0)})
    truth = pd.Series(np.where(frame["telling"] < 10, "a", "b"))
    model = RandomForestClassifier(n_estimators=5, random_state=1).fit(frame, truth)
    table = evaluate.importance(model, frame, truth, repeats=3, seed=1)
    assert table["feature"].tolist() == ["telling", "dull"]
    assert table["importance"].iloc[0] > 0 == table["importance"].iloc[1]
    assert table["importance_std"].iloc[0] > 0 == table["importance_std"].iloc[1]


def test_importance_is_what_scikit_learn_measures(iris, forest):
    """The importance of a feature is scikit-learn's own, by accuracy."""
    features, truth = iris.drop(columns="species"), iris["species"].set_axis(iris.index + 100)
    table = evaluate.importance(forest, features, truth, repeats=4, seed=2).set_index("feature")
    expected = permutation_importance(forest, features, truth, scoring="accuracy", n_repeats=4, random_state=2)
    measured = table.loc[list(features), ["importance", "importance_std"]].to_numpy()
    np.testing.assert_allclose(measured.T, [expected.importances_mean, expected.importances_std], atol=1e-6)


def test_importance_falls(iris, forest):
    """Every feature is in the table once, the largest importance first."""
    table = evaluate.importance(forest, iris.drop(columns="species"), iris["species"], repeats=3, seed=1)
    assert set(table["feature"]) == set(iris.drop(columns="species")) and len(table) == 4
    assert table["importance"].is_monotonic_decreasing


class Both:
    """A model that wants both features to be large."""

    def fit(self, *data) -> None: ...

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        return np.where((features["x"] > 0.5) & (features["y"] > 0.5), "b", "a")

    def score(self, features: pd.DataFrame, truth: pd.Series) -> float:
        return float((self.predict(features) == truth).mean())


def test_equal_importance_goes_by_name():
    """Features whose importance is the same to the 6 decimals that are kept stand in the order of their names."""
    frame = pd.DataFrame({"y": [0, 1, 1, 0, 1, 1, 0], "x": [1, 1, 0, 0, 1, 1, 1]})
    truth = pd.Series(Both().predict(frame))
    tables = [evaluate.importance(Both(), frame, truth, repeats=10, seed=seed) for seed in range(100)]
    ties = [table["feature"].tolist() for table in tables if table["importance"].round(6).nunique() == 1]
    assert ties == [["x", "y"]] * len(ties) and ties


def test_the_stage_writes_all_its_outputs(measure, iris):
    """The stage writes the metrics, the rows' scores and the three plots' data, and nothing else."""
    files = measure("metrics")
    assert sorted(files) == ["confusion.csv", "importance.csv", "metrics.json", "roc.csv", "rows.csv"]
    for name, columns in CSVS.items():
        assert files[f"{name}.csv"].decode().splitlines()[0].split(",") == columns
    measured = json.loads(files["metrics.json"])
    assert measured["rows"] == len(iris) == np.sum(measured["confusion_matrix"])
    assert 0.5 < measured["accuracy"] < 1
    assert measured["accuracy"] == pytest.approx(np.trace(measured["confusion_matrix"]) / len(iris), abs=1e-6)
    scores = [int(line) for line in files["rows.csv"].split()[1:]]
    assert measured["accuracy"] == pytest.approx(np.mean(scores), abs=1e-6) and len(scores) == len(iris)


@pytest.mark.parametrize("names", [["0", "1", "2"], ["True", "False", "NA"]])
def test_classes_that_look_like_other_values_are_measured(tmp_path, iris, names):
    """Classes that are digits, bools or gaps to a reader of CSV are the texts that the model was trained on."""
    flowers = iris.assign(species=[names[row % 3] for row in range(len(iris))])
    flowers.to_csv(tmp_path / "test.csv", index=False)
    model = RandomForestClassifier(n_estimators=5, random_state=1)
    skops_model.save(model.fit(flowers.drop(columns="species"), flowers["species"]), tmp_path / "model.skops")
    paths = {name: tmp_path / "metrics" / name for name in ("metrics", *CSVS)}
    files = {"model": tmp_path / "model.skops", "test_csv": tmp_path / "test.csv"} | paths
    evaluate.main(evaluate.EvaluateArgs(**files, importance_repeats=1, seed=1))
    assert set(json.loads(paths["metrics"].read_text())["per_class"]) == set(names)


def test_the_same_inputs_give_the_same_bytes(measure):
    """Run twice, the stage writes the same files, byte by byte."""
    assert measure("one") == measure("two")


def test_numbers_have_six_decimals_at_most(measure):
    """What is written has no digit that differs from one processor to another."""
    for name, content in measure("metrics").items():
        for word in content.decode().replace(",", " ").replace("[", " ").split():
            assert len(word.rpartition(".")[2]) <= 6 or not word[-1].isdigit(), f"{word} in {name}"


def test_what_is_no_model_is_refused(tmp_path, measure):
    """A file that is no model is bad input, and nothing is written."""
    (tmp_path / "model.skops").write_bytes(b"no model")
    with pytest.raises(BadInput, match=r"model\.skops"):
        measure("metrics")
    assert not (tmp_path / "metrics").exists()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda frame: frame.rename(columns={"petal width (cm)": "weight"}), "petal width (cm), the test set has"),
        (lambda frame: frame.drop(columns="petal width (cm)"), "petal width (cm), the test set has"),
        (lambda frame: frame.iloc[:, [1, 0, 2, 3, 4]], "the test set has sepal width (cm), sepal length (cm)"),
        (
            lambda frame: frame.assign(weight=1.0).iloc[:, [5, 0, 1, 2, 3, 4]],
            "the test set has weight, sepal length (cm)",
        ),
        (lambda frame: frame.replace("virginica", "rose"), "the class rose, the model knows setosa, versicolor, virg"),
    ],
    ids=["another column", "a column less", "another order", "a column more", "another class"],
)
def test_a_model_of_other_data_is_refused(tmp_path, measure, iris, change, found):
    """A model that was trained on other columns or classes than the test set's is bad input, in one line."""
    change(iris).to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(BadInput) as error:
        measure("metrics")
    assert found in str(error.value) and "expected" in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "metrics").exists()


def test_a_test_set_may_lack_a_class(tmp_path, measure, iris):
    """A class of the model's that no test row has costs nothing but that class's scores."""
    iris[iris["species"] != "setosa"].to_csv(tmp_path / "test.csv", index=False)
    assert json.loads(measure("metrics")["metrics.json"])["per_class"]["setosa"]["recall"] == 0
