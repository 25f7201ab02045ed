"""Writes the breast-cancer data set that comes with scikit-learn: 569 tumours, 30 measurements of each."""

from pathlib import Path

import pandas as pd
from sklearn.datasets import load_breast_cancer

from stagekit import Args, log, run, writing


class IngestArgs(Args):
    out: Path


def tumours() -> pd.DataFrame:
    """Return the measurements, then `diagnosis`: malignant or benign."""
    data = load_breast_cancer(as_frame=True)
    frame = data.data.rename(columns=lambda name: name.replace(" ", "_"))
    return frame.assign(diagnosis=data.target_names[data.target])


def main(args: IngestArgs) -> None:
    frame = tumours()
    with writing(args.out) as part:
        frame.to_csv(part, index=False, lineterminator="\n")
    log.info("%d rows -> %s", len(frame), args.out)


if __name__ == "__main__":
    run(main, IngestArgs)
