import pytest

import preprocess
from stagekit import BadInput


@pytest.fixture
def share_out(tmp_path):
    """Run the stage on five files of each of two shapes; return the names of what is for training and for the test."""
    for shape in ("circle", "square"):
        (tmp_path / "images" / shape).mkdir(parents=True)
        for number in range(5):
            (tmp_path / "images" / shape / f"{number}.png").write_bytes(b"image")

    def run(test_size: float) -> list[list[str]]:
        folders = {name: tmp_path / name for name in ("images", "train_images", "test_images")}
        preprocess.main(preprocess.PreprocessArgs(**folders, test_size=test_size))
        made = [folders["train_images"], folders["test_images"]]
        return [sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*")) for folder in made]

    return run


def test_each_image_is_in_one_of_the_two_folders(share_out):
    """Of each shape, the last images are for the test and all others for training."""
    train, test = share_out(0.4)
    assert test == ["circle/3.png", "circle/4.png", "square/3.png", "square/4.png"]
    assert len(train) == 6 and not set(train) & set(test)


def test_a_folder_without_images_is_refused(share_out):
    """A share that leaves no image for the test is bad input."""
    with pytest.raises(BadInput, match="5 would be for training"):
        share_out(0.05)
