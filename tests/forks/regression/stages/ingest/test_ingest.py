import pandas as pd

import ingest


def test_the_data_has_its_target(tmp_path):
    """There is a row for each of the 442 patients, and the target is its last column."""
    ingest.main(ingest.IngestArgs(out=tmp_path / "x.csv"))
    frame = pd.read_csv(tmp_path / "x.csv")
    assert len(frame) == 442 and list(frame)[-1] == "progression"
