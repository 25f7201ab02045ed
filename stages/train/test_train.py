import json
import logging
from hashlib import md5
from importlib.metadata import version as installed

import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.datasets import load_iris

import skops_model
from stagekit import sha256
from stages.train import scoring, train
from stages.train.scoring import HeldOut

SMALL = {"n_estimators": 5, "max_depth": None, "min_samples_leaf": 1, "max_features": 0.5, "seed": 1}


@pytest.fixture(scope="module")
def iris() -> pd.DataFrame:
    """The 150 flowers, in the columns that the stage reads."""
    data = load_iris(as_frame=True)
    return data.data.assign(species=data.target_names[data.target])


@pytest.fixture
def args(tmp_path, iris):
    """Arguments of the stage for two files with flowers, every third for the test; a call changes some of them."""
    iris.drop(index=range(0, 150, 3)).to_csv(tmp_path / "train.csv", index=False)
    iris.iloc[::3].to_csv(tmp_path / "test.csv", index=False)
    paths = {"train_csv": tmp_path / "train.csv", "test_csv": tmp_path / "test.csv"}

    def make(folder: str = "models", **changes) -> train.TrainArgs:
        outputs = {"model": tmp_path / folder / "model.skops", "metadata": tmp_path / folder / "model_metadata.json"}
        return train.TrainArgs(**paths, **outputs, **(SMALL | changes))

    return make


@pytest.fixture
def unreachable(monkeypatch):
    """The environment of a stage whose MLflow server is away."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    settings = {"experiment": "iris", "model": "iris-classifier", "gate": {}, "who": "ann"}
    monkeypatch.setenv("REGISTRY", json.dumps(settings))


def accuracy(model, frame: pd.DataFrame) -> float:
    return scoring.scores(model, HeldOut.of(frame))["test_accuracy"]


def test_a_forest_tells_the_flowers_apart(iris):
    """A small forest tells at least nine of ten flowers that it has not seen."""
    model = train.fit(iris.drop(index=range(0, 150, 3)), **SMALL)
    assert accuracy(model, iris.iloc[::3]) >= 0.9
    assert list(model.classes_) == ["setosa", "versicolor", "virginica"]


def test_hyperparameters_reach_the_forest(iris):
    """Each hyperparameter is the forest's, and the seed is its random state."""
    model = train.fit(iris, n_estimators=7, max_depth=2, min_samples_leaf=3, max_features=0.25, seed=9)
    wanted = {"n_estimators": 7, "max_depth": 2, "min_samples_leaf": 3, "max_features": 0.25, "random_state": 9}
    assert {name: model.get_params()[name] for name in wanted} == wanted


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
        ("bootstrap", True),
    ],
)
def test_values_out_of_range_are_refused(args, name, value):
    """A hyperparameter that is out of range or unknown is refused by its name."""
    with pytest.raises(ValidationError, match=name):
        args(**{name: value})


def test_the_description_tells_all_without_the_model(args, iris):
    """The metadata hold the parameters, both accuracies, features, classes, the data's digests and the packages."""
    options = args()
    frames = pd.read_csv(options.train_csv), pd.read_csv(options.test_csv)
    model = train.fit(frames[0], **options.hyperparameters())
    assert train.describe(options, model, *frames) == {
        "algorithm": "RandomForestClassifier",
        "params": SMALL,
        "metrics": scoring.scores(model, HeldOut.of(frames[1])) | {"train_accuracy": accuracy(model, frames[0])},
        "features": iris.columns[:4].tolist(),
        "target": "species",
        "classes": ["setosa", "versicolor", "virginica"],
        "data": {
            name: {"path": str(path), "rows": rows, "sha256": sha256(path), "md5": md5(path.read_bytes()).hexdigest()}
            for name, path, rows in (("train", options.train_csv, 100), ("test", options.test_csv, 50))
        },
        "packages": {name: installed(name) for name in ("numpy", "pandas", "scikit-learn", "skops")},
    }


def test_a_registry_that_is_away_costs_no_training(unreachable, args, caplog):
    """Without its server the stage ends well, with the model and its metadata on disk and a warning."""
    options = args()
    with caplog.at_level(logging.WARNING):
        train.main(options)
    test = pd.read_csv(options.test_csv)
    metadata = json.loads(options.metadata.read_text())
    assert accuracy(skops_model.load(options.model), test) == metadata["metrics"]["test_accuracy"]
    warnings = [record.getMessage() for record in caplog.records if "not published" in record.getMessage()]
    assert len(warnings) == 1 and "http://127.0.0.1:9" in warnings[0] and "\n" not in warnings[0]


def test_no_registry_at_all_costs_no_training(unreachable, args, caplog, monkeypatch):
    """Started without the settings of a registry, the stage trains and says what is missing."""
    monkeypatch.delenv("REGISTRY")
    options = args()
    train.main(options)
    assert options.model.exists() and options.metadata.exists()
    assert "REGISTRY" in caplog.text


def test_the_same_arguments_give_the_same_bytes(unreachable, args):
    """Trained twice, model and metadata are the same byte by byte; another seed gives another model."""
    for folder, seed in (("one", 1), ("two", 1), ("three", 2)):
        train.main(args(folder, seed=seed))
    one, two, three = (args(folder) for folder in ("one", "two", "three"))
    assert one.model.read_bytes() == two.model.read_bytes() != three.model.read_bytes()
    assert one.metadata.read_bytes() == two.metadata.read_bytes() != three.metadata.read_bytes()
    assert sorted(path.name for path in one.model.parent.iterdir()) == ["model.skops", "model_metadata.json"]
