import pandas as pd

import preprocess


def test_the_seed_decides_the_rows(tmp_path):
    """Each row is in one of the two sets; the same seed draws the same ones, and another seed other ones."""
    pd.DataFrame({"x": range(20)}).to_csv(tmp_path / "raw.csv", index=False)

    def split(seed):
        train, test = tmp_path / "train.csv", tmp_path / "test.csv"
        preprocess.main(
            preprocess.PreprocessArgs(
                raw=tmp_path / "raw.csv", train_csv=train, test_csv=test, test_size=0.2, seed=seed
            )
        )
        return [pd.read_csv(path)["x"].tolist() for path in (train, test)]

    one, two, three = split(1), split(1), split(2)
    assert one == two != three and sorted(one[0] + one[1]) == list(range(20))
