import pandas as pd

import ingest


def test_the_data_is_written_with_its_diagnosis(tmp_path):
    """The file has 569 rows of 30 measurements, none missing, and 212 of the tumours are malignant."""
    ingest.main(ingest.IngestArgs(out=tmp_path / "raw" / "tumours.csv"))
    frame = pd.read_csv(tmp_path / "raw" / "tumours.csv")
    assert frame.shape == (569, 31) and not frame.isna().any(axis=None)
    assert frame["diagnosis"].value_counts().to_dict() == {"benign": 357, "malignant": 212}
