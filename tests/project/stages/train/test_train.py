"""The one test of a stage here: what `make test-train` runs in its image."""

from pathlib import Path

import train


def test_the_same_arguments_give_the_same_bytes(tmp_path):
    """Trained twice, all files are the same byte by byte."""
    (tmp_path / "train.csv").write_text("x,species\n1,a\n2,a\n8,b\n9,b\n")
    parameters = {"n_estimators": 5, "max_depth": None, "min_samples_leaf": 1, "max_features": 1, "seed": 1}
    for folder in ("one", "two"):
        names = ("model", "signature", "training")
        outputs = {name: Path(tmp_path, folder, name) for name in names}
        train.main(train.TrainArgs(train_csv=tmp_path / "train.csv", **outputs, **parameters))
    assert [(tmp_path / "one" / name).read_bytes() for name in names] == [
        (tmp_path / "two" / name).read_bytes() for name in names
    ]
