import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

import predict
import skops_model
from stagekit import BadInput


@pytest.fixture(scope="module")
def iris() -> pd.DataFrame:
    """The flowers, as a table that a stage hands on."""
    data = load_iris(as_frame=True)
    return data.data.assign(species=data.target_names[data.target])


@pytest.fixture
def model(tmp_path, iris):
    """A forest that errs on some flowers, from its file."""
    forest = RandomForestClassifier(n_estimators=3, max_depth=2, random_state=1)
    forest.fit(iris.iloc[::3, :-1], iris.iloc[::3, -1])
    skops_model.save(forest, tmp_path / "model.skops")
    return predict.load(tmp_path / "model.skops")


def test_it_predicts_what_is_measured(model, iris):
    """Each row's prediction is the one of the model's own `predict`, which is measured, also where that is wrong."""
    found = predict.predict(model, iris.iloc[:, :-1])["prediction"]
    assert (found != iris["species"]).any()
    assert found.tolist() == model.predict(iris.iloc[:, :-1]).tolist()


def test_probabilities_are_scikit_learns_to_the_byte(iris):
    """A forest's are what its own `predict_proba` gives, for one row and for many; any other model is asked itself."""
    features, species = iris.iloc[:, :-1], iris.iloc[:, -1]
    for model in (RandomForestClassifier(n_estimators=30, random_state=1), LogisticRegression(max_iter=1000)):
        model.fit(features[::2], species[::2])
        for rows in (features, features.iloc[[70]]):
            assert predict.probabilities(model, rows).tobytes() == model.predict_proba(rows).tobytes()


def test_a_number_that_is_none_is_refused(model, iris):
    """What scikit-learn refuses to predict for is refused."""
    with pytest.raises(ValueError, match="infinity"):
        predict.predict(model, iris.iloc[:2, :-1] * 1e300)


def test_each_row_by_itself(model, iris):
    """A row alone, in any order of the columns, has the prediction and probabilities that it has among others."""
    together = predict.predict(model, iris.iloc[:, :-1])
    assert np.allclose(together.filter(like="probability_").sum(axis=1), 1)
    alone = iris.iloc[[70], [3, 2, 1, 0]]
    assert predict.predict(model, alone).iloc[0].tolist() == together.iloc[70].tolist()


def test_the_sample_has_no_target(tmp_path, iris):
    """The sample is the test set without the column that is to be predicted."""
    iris.to_csv(tmp_path / "test.csv", index=False)
    assert predict.sample(tmp_path / "test.csv").equals(iris.iloc[:, :-1])


def test_a_file_that_is_no_model_is_refused(tmp_path):
    """Anything but what `train` writes is refused in a sentence."""
    (tmp_path / "model.skops").write_text("no model")
    with pytest.raises(BadInput, match="is no model that can be trusted"):
        predict.load(tmp_path / "model.skops")
