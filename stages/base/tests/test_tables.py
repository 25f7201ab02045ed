import pandas as pd
import pytest

import tables


@pytest.mark.parametrize(
    "classes", [["0", "1"], ["1.0", "2.50"], ["True", "false"], ["NA", "None", "nan"], ["01", "1"], ["a, b", 'x "y"']]
)
def test_a_class_is_a_text(tmp_path, classes):
    """What a class is called stays as it was written, be it like a number, a bool or a gap; features are numbers."""
    frame = pd.DataFrame({"x": range(len(classes)), "y": 1.5, "kind": classes})
    frame.to_csv(tmp_path / "table.csv", index=False)
    read = tables.read(tmp_path / "table.csv")
    assert read["kind"].tolist() == classes
    assert [read[name].dtype for name in ("x", "y")] == ["int64", "float64"]
    read.to_csv(tmp_path / "again.csv", index=False)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "table.csv").read_bytes()
