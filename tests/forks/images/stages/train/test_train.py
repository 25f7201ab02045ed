import json

import numpy as np
import pytest
from PIL import Image

import loader
import train


@pytest.fixture
def args(tmp_path):
    """Return a function that gives the arguments of the stage, on dark and bright images, for a folder of outputs."""
    for shape, level in (("dark", 20), ("bright", 220)):
        (tmp_path / "train" / shape).mkdir(parents=True)
        for number in range(4):
            Image.new("L", (8, 8), level + number).save(tmp_path / "train" / shape / f"{number}.png")

    def make(folder: str = "models") -> train.TrainArgs:
        outputs = {name: tmp_path / folder / name for name in ("model", "signature", "training")}
        return train.TrainArgs(train_images=tmp_path / "train", **outputs, epochs=20, learning_rate=0.1)

    return make


def test_the_same_arguments_give_the_same_bytes(args):
    """Trained twice, all files are the same byte by byte."""
    one, two = args("one"), args("two")
    train.main(one)
    train.main(two)
    files = sorted(path.relative_to(one.model.parent) for path in one.model.parent.rglob("*") if path.is_file())
    assert [path.name for path in files] == ["model.json", "weights.npy", "signature", "training"]
    for path in files:
        assert (one.model.parent / path).read_bytes() == (two.model.parent / path).read_bytes()


def test_the_loader_gives_the_model_back(args):
    """What MLflow loads by loader.py names the shape of each image, in the form that the signature says."""
    options = args()
    train.main(options)
    images = np.stack([np.full((8, 8), level) for level in (0.1, 0.9)])
    assert loader._load_pyfunc(str(options.model)).predict(images).tolist() == ["dark", "bright"]
    (tensor,) = json.loads(json.loads(options.signature.read_text())["inputs"])
    assert tensor["tensor-spec"] == {"dtype": "float64", "shape": [-1, 8, 8]}


def test_the_loss_falls_and_is_printed(args, capsys):
    """Each epoch is a line for the run to show, and the last one's loss is less than the first one's."""
    train.main(args())
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("::metric train_loss=")]
    losses = [float(line.split("=")[1].split()[0]) for line in printed]
    assert len(losses) == 20 and losses[-1] < losses[0]
