"""Writes the diabetes data set that comes with scikit-learn: 442 patients, and how the disease went on in a year."""

from pathlib import Path

from sklearn.datasets import load_diabetes

from stagekit import Args, log, run, writing


class IngestArgs(Args):
    out: Path


def main(args: IngestArgs) -> None:
    frame = load_diabetes(as_frame=True, scaled=False).frame.rename(columns={"target": "progression"})
    with writing(args.out) as part:
        frame.to_csv(part, index=False, lineterminator="\n")
    log.info("%d rows -> %s", len(frame), args.out)


if __name__ == "__main__":
    run(main, IngestArgs)
