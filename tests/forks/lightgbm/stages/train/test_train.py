import numpy as np
import pytest
from sklearn.datasets import load_iris

import loader
import train

HYPERPARAMETERS = {"rounds": 5, "learning_rate": 0.1, "num_leaves": 4, "min_data_in_leaf": 5, "seed": 1}
IRIS = load_iris(as_frame=True)


@pytest.fixture
def args(tmp_path):
    """Return a function that gives the arguments of the stage for a folder of outputs."""
    frame = IRIS.data.rename(columns=lambda name: name.removesuffix(" (cm)").replace(" ", "_"))
    frame.assign(species=IRIS.target_names[IRIS.target]).to_csv(tmp_path / "train.csv", index=False)

    def make(folder: str = "models") -> train.TrainArgs:
        outputs = {name: tmp_path / folder / name for name in ("model", "signature")}
        return train.TrainArgs(train_csv=tmp_path / "train.csv", **outputs, **HYPERPARAMETERS)

    return make


def test_the_same_arguments_give_the_same_bytes(args):
    """Trained twice, all files are the same byte by byte."""
    one, two = args("one"), args("two")
    train.main(one)
    train.main(two)
    for name in ("model", "signature"):
        assert getattr(one, name).read_bytes() == getattr(two, name).read_bytes()


def test_the_loss_falls_and_is_printed(args, capsys):
    """Each tree is a line for the run to show, and the last one's loss is less than the first one's."""
    train.main(args())
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::metric train_log_loss=")]
    losses = [float(line.split("=")[1].split()[0]) for line in printed]
    assert len(losses) == HYPERPARAMETERS["rounds"] and losses[-1] < losses[0]


def test_the_loader_gives_the_model_back(args):
    """What MLflow loads by loader.py gives a virginica a higher probability than any other flower."""
    options = args()
    train.main(options)
    model = loader._load_pyfunc(str(options.model))
    setosa, virginica = (model.predict(IRIS.data[IRIS.target == number]) for number in (0, 2))
    assert np.max(setosa) < np.min(virginica)
