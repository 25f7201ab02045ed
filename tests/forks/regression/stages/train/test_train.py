import numpy as np
import pytest
from sklearn.datasets import load_diabetes

import loader
import train

HYPERPARAMETERS = {"n_estimators": 5, "learning_rate": 0.1, "max_depth": 2, "subsample": 0.8, "seed": 1}


@pytest.fixture
def args(tmp_path):
    """Return a function that gives the arguments of the stage for a folder of outputs."""
    frame = load_diabetes(as_frame=True).frame.rename(columns={"target": train.TARGET})
    frame.to_csv(tmp_path / "train.csv", index=False)

    def make(folder: str = "models") -> train.TrainArgs:
        names = ("model", "signature", "training")
        outputs = {name: tmp_path / folder / name for name in names}
        return train.TrainArgs(train_csv=tmp_path / "train.csv", **outputs, **HYPERPARAMETERS)

    return make


def test_the_same_arguments_give_the_same_bytes(args):
    """Trained twice, all files are the same byte by byte."""
    one, two = args("one"), args("two")
    train.main(one)
    train.main(two)
    for name in ("model", "signature", "training"):
        assert getattr(one, name).read_bytes() == getattr(two, name).read_bytes()


def test_the_error_falls_and_is_printed(args, capsys):
    """Each tree is a line for the run to show, and the last one's error is less than the first one's."""
    train.main(args())
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::metric train_rmse=")]
    errors = [float(line.split("=")[1].split()[0]) for line in printed]
    assert len(errors) == HYPERPARAMETERS["n_estimators"] and errors[-1] < errors[0]


def test_the_loader_gives_the_model_back(args):
    """What MLflow loads by loader.py predicts a number for each row."""
    options = args()
    train.main(options)
    features = load_diabetes(as_frame=True).data
    assert np.isfinite(loader._load_pyfunc(str(options.model)).predict(features)).all()
