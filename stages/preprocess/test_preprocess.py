import random

import pandas as pd
import pytest
from pydantic import ValidationError
from sklearn.datasets import load_iris

import preprocess
from stagekit import BadInput

IRIS = load_iris(as_frame=True).frame.rename(columns={"target": "species"})


def classes(**counts: int) -> pd.DataFrame:
    """A table with that many rows of each class."""
    species = [name for name, count in counts.items() for _ in range(count)]
    return pd.DataFrame({"x": range(len(species)), "species": species})


@pytest.fixture
def split(tmp_path):
    """Runs the stage on a table and gives the two files that it wrote."""

    def run(frame: pd.DataFrame, test_size: float = 0.2, seed: int = 3):
        frame.to_csv(tmp_path / "raw.csv", index=False)
        paths = {"train_csv": tmp_path / "out" / "train.csv", "test_csv": tmp_path / "out" / "test.csv"}
        preprocess.main(preprocess.PreprocessArgs(raw=tmp_path / "raw.csv", **paths, test_size=test_size, seed=seed))
        return paths["train_csv"].read_bytes(), paths["test_csv"].read_bytes()

    return run


def test_iris_is_split_120_to_30(tmp_path, split):
    """A fifth of the rows is for the test, with the classes in the same proportion in both files."""
    split(IRIS)
    train, test = (pd.read_csv(tmp_path / "out" / name) for name in ("train.csv", "test.csv"))
    assert train["species"].value_counts().to_dict() == {0: 40, 1: 40, 2: 40}
    assert test["species"].value_counts().to_dict() == {0: 10, 1: 10, 2: 10}
    assert list(train) == list(test) == list(IRIS)


def test_classes_keep_their_proportion():
    """Where one class is rarer, it is rarer in both parts alike."""
    train, test = preprocess.split(classes(a=60, b=30, c=10), 0.1, seed=1)
    assert train["species"].value_counts().to_dict() == {"a": 54, "b": 27, "c": 9}
    assert test["species"].value_counts().to_dict() == {"a": 6, "b": 3, "c": 1}


@pytest.mark.parametrize("test_size", [0.02, 0.2, 0.5, 0.98])
def test_no_row_is_lost_or_doubled(test_size):
    """Each row is in exactly one of the two parts, unchanged."""
    parts = preprocess.split(IRIS, test_size, seed=1)
    pd.testing.assert_frame_equal(pd.concat(parts).sort_index(), IRIS)


def test_the_seed_decides_the_split(split):
    """The same seed gives the same two files, byte by byte, and another seed other ones."""
    first = split(IRIS, seed=3)
    assert split(IRIS, seed=3) == first
    other = split(IRIS, seed=4)
    assert other[0] != first[0] and other[1] != first[1]


def test_values_stand_as_they_were(split):
    """A number is written as it was read: no digit more, none less."""
    train, test = split(IRIS)
    raw = IRIS.to_csv(index=False).splitlines()
    assert sorted(train.decode().splitlines()[1:] + test.decode().splitlines()[1:]) == sorted(raw[1:])


def test_all_digits_of_a_number_are_kept(split):
    """A number of 17 digits, large or small, is the same in the file that it is written to."""
    chance = random.Random(1)
    frame = classes(a=300, b=300).assign(x=[chance.uniform(0, 1) * 10 ** chance.randint(-9, 2) for _ in range(600)])
    written = [line for file in split(frame) for line in file.decode().splitlines()[1:]]
    assert sorted(written) == sorted(frame.to_csv(index=False).splitlines()[1:])


@pytest.mark.parametrize(
    ("frame", "test_size"),
    [
        pytest.param(classes(a=1), 0.2, id="one row"),
        pytest.param(classes(a=5, b=5, c=1), 0.2, id="a class of one row"),
        pytest.param(classes(a=50, b=50), 0.01, id="fewer test rows than classes"),
        pytest.param(classes(a=50, b=50), 0.99, id="fewer training rows than classes"),
        pytest.param(classes(a=98, b=2), 0.1, id="a class too rare for the test"),
        pytest.param(classes(a=98, b=2), 0.9, id="a class too rare for the training"),
    ],
)
def test_a_split_that_would_miss_a_class_is_refused(frame, test_size):
    """Where a class would be missing from one of the two parts, the split is refused in one line with the numbers."""
    with pytest.raises(BadInput, match=rf"{len(frame)} rows .* {test_size}") as error:
        preprocess.split(frame, test_size, seed=0)
    assert "\n" not in str(error.value)


def test_a_refused_split_leaves_no_file(tmp_path, split):
    """A table that cannot be split leaves neither of the two files."""
    with pytest.raises(BadInput):
        split(classes(a=5, b=1))
    assert list((tmp_path / "out").glob("*")) == []


@pytest.mark.parametrize(
    ("name", "value"), [("test_size", 0), ("test_size", 1), ("test_size", -0.2), ("seed", -1), ("seed", 2**32)]
)
def test_values_out_of_range_are_refused(tmp_path, name, value):
    """The share of the test lies in (0, 1) and the seed in what the generator takes."""
    paths = {field: tmp_path / field for field in ("raw", "train_csv", "test_csv")}
    with pytest.raises(ValidationError, match=name):
        preprocess.PreprocessArgs(**paths, **({"test_size": 0.2, "seed": 1} | {name: value}))
