import os
import pickle
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import StandardScaler

import skops_model
from stagekit import BadInput

FEATURES, CLASSES = load_iris(return_X_y=True)


def forest(seed: int = 1) -> RandomForestClassifier:
    return RandomForestClassifier(n_estimators=5, random_state=seed).fit(FEATURES, CLASSES)


def saved(model, path: Path) -> bytes:
    skops_model.save(model, path)
    return path.read_bytes()


def test_equal_models_give_equal_bytes(tmp_path):
    """Two models fitted apart from each other on the same data give the same file, and another model another one."""
    first = saved(forest(), tmp_path / "first.skops")
    assert saved(forest(), tmp_path / "second.skops") == first
    assert saved(forest(seed=2), tmp_path / "other.skops") != first


def test_bytes_are_the_same_in_every_process(tmp_path):
    """Two processes whose objects lie and hash elsewhere write the same file."""
    program = (
        "import sys; from pathlib import Path; import skops_model; from sklearn.datasets import load_iris;"
        "from sklearn.ensemble import RandomForestClassifier;"
        "model = RandomForestClassifier(n_estimators=5, random_state=1).fit(*load_iris(return_X_y=True));"
        "skops_model.save(model, Path(sys.argv[1]))"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, tmp_path / seed],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(skops_model.__file__).parent)},
        )
        for seed in ("1", "2")
    ]
    assert [process.wait() for process in running] == [0, 0]
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_plain_skops_loads_the_file(tmp_path):
    """The file is an ordinary skops file: skops alone makes a model of it that predicts the same."""
    model = forest()
    skops_model.save(model, tmp_path / "model.skops")
    loaded = skops.io.load(tmp_path / "model.skops", trusted=skops_model.TRUSTED_TYPES)
    np.testing.assert_array_equal(loaded.predict_proba(FEATURES), model.predict_proba(FEATURES))


def test_a_saved_model_loads(tmp_path):
    """What save wrote, load gives back, with the same parameters and the same predictions."""
    model = forest()
    skops_model.save(model, tmp_path / "model.skops")
    loaded = skops_model.load(tmp_path / "model.skops")
    assert loaded.get_params() == model.get_params()
    np.testing.assert_array_equal(loaded.predict_proba(FEATURES), model.predict_proba(FEATURES))


def test_shared_objects_survive(tmp_path):
    """An object that is in a model twice is there once when it is loaded, and equal objects stay two."""
    scaler, array = StandardScaler().fit(FEATURES), np.arange(3.0)
    skops_model.save([scaler, scaler, array, array, array.copy()], tmp_path / "model.skops")
    loaded = skops_model.load(tmp_path / "model.skops")
    assert loaded[0] is loaded[1]
    assert loaded[2] is loaded[3]
    assert loaded[2] is not loaded[4]
    np.testing.assert_array_equal(loaded[4], array)


def test_a_failed_save_keeps_the_old_model(tmp_path):
    """What cannot be saved leaves the model that is there as it was, and nothing beside it."""
    old = saved(forest(), tmp_path / "model.skops")
    with pytest.raises(TypeError, match="lock"):
        skops_model.save(threading.Lock(), tmp_path / "model.skops")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [old]


class Stranger:
    """A type that nobody trusts."""

    def __init__(self) -> None:
        self.harm = 1


def zipped(**files: str):
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in files.items():
                archive.writestr(name.replace("_", "."), text)

    return write


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_bytes(b"no model\n" * 100), id="garbage"),
        pytest.param(lambda path: path.write_bytes(pickle.dumps(forest())), id="pickle"),
        pytest.param(lambda path: path.write_bytes(skops.io.dumps(forest())[:-100]), id="cut off"),
        pytest.param(zipped(data_csv="1,2"), id="zip of something else"),
        pytest.param(zipped(schema_json="no JSON"), id="zip with a broken schema"),
        pytest.param(zipped(schema_json="[]"), id="zip with another schema"),
        pytest.param(lambda path: skops_model.save(Stranger(), path), id="untrusted type"),
    ],
)
def test_what_is_no_trusted_model_is_refused(tmp_path, write):
    """A file that is no skops file, or holds a type that is not trusted, is bad input, in one line with its name."""
    write(tmp_path / "model.skops")
    with pytest.raises(BadInput, match=r"model\.skops") as error:
        skops_model.load(tmp_path / "model.skops")
    assert "\n" not in str(error.value)


def test_loading_a_pickle_runs_no_code(tmp_path):
    """A pickle that would run code when it is loaded runs none."""

    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "model.skops").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(BadInput):
        skops_model.load(tmp_path / "model.skops")
    assert not (tmp_path / "ran").exists()
