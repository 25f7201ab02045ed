import numpy as np
from PIL import Image

import ingest


def draw(folder, seed):
    ingest.main(ingest.IngestArgs(images=folder, count=20, size=12, noise=30, seed=seed))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("*/*.png")}


def test_the_seed_decides_the_images(tmp_path):
    """The same seed draws the same files, byte by byte, and another seed other ones."""
    one, two, three = draw(tmp_path / "one", 1), draw(tmp_path / "two", 1), draw(tmp_path / "three", 2)
    assert one == two != three and len(one) == 20
    assert np.asarray(Image.open(tmp_path / "one" / "circle" / "0000.png")).shape == (12, 12)
