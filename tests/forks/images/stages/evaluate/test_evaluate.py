import json

import numpy as np
import pytest
from PIL import Image

import evaluate
from stagekit import BadInput


@pytest.fixture
def measure(tmp_path):
    """Run the stage with a model that takes any image whose sum is more than 1 for bright."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.json").write_text(json.dumps({"shapes": ["dark", "bright"], "size": [2, 2]}))
    np.save(tmp_path / "model" / "weights.npy", [1, 1, 1, 1, -1])

    def run(**images: list[int]) -> dict[str, str]:
        for shape, levels in images.items():
            (tmp_path / "test" / shape).mkdir(parents=True)
            for number, level in enumerate(levels):
                Image.new("L", (2, 2), level).save(tmp_path / "test" / shape / f"{number}.png")
        outputs = {"metrics": tmp_path / "metrics" / "metrics.json", "rows": tmp_path / "metrics" / "rows.csv"}
        evaluate.main(evaluate.EvaluateArgs(model=tmp_path / "model", test_images=tmp_path / "test", **outputs))
        return {name: path.read_text() for name, path in outputs.items()}

    run.model = tmp_path / "model"
    return run


def test_each_image_has_its_score(measure):
    """An image whose shape the model names scores 1, any other 0, in the order of their names."""
    files = measure(dark=[10, 200, 20], bright=[250])
    assert files["rows"].split() == ["score", "1", "1", "0", "1"]  # bright, then dark
    assert json.loads(files["metrics"]) == {"images": 4, "accuracy": 0.75}


def test_what_is_no_model_is_refused(measure):
    """A folder without weights is bad input."""
    (measure.model / "weights.npy").unlink()
    with pytest.raises(BadInput, match="is no model"):
        measure(dark=[10])


def test_a_model_of_other_images_is_refused(measure):
    """A model that was trained on images of another size is bad input."""
    (measure.model / "model.json").write_text(json.dumps({"shapes": ["dark", "bright"], "size": [3, 3]}))
    with pytest.raises(BadInput, match=r"images of \(3, 3\) pixels"):
        measure(dark=[10])
