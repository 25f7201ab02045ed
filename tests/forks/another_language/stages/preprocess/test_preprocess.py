"""`make test-preprocess` runs this in the stage's image, to which it adds pytest."""

import subprocess

import pytest


@pytest.fixture
def preprocess(tmp_path):
    """Run the stage on six rows of each of two classes."""
    rows = [f"{number},{name}" for number in range(6) for name in ("a", "b")]
    (tmp_path / "raw.csv").write_text("\n".join(["x,species", *rows]) + "\n")

    def run(*section: str) -> subprocess.CompletedProcess[str]:
        files = ["--raw", "raw.csv", "--train_csv", "train.csv", "--test_csv", "test.csv"]
        command = ["sh", "/app/preprocess.sh", *files, *section]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    return run


def test_every_third_row_of_a_class_is_for_the_test(tmp_path, preprocess):
    """The test set has rows 3 and 6 of each class, the training set the others, both in their order."""
    assert preprocess("--every", "3").returncode == 0
    assert (tmp_path / "test.csv").read_text().split() == ["x,species", "2,a", "2,b", "5,a", "5,b"]
    assert (tmp_path / "train.csv").read_text().split()[1::2] == ["0,a", "1,a", "3,a", "4,a"]


@pytest.mark.parametrize("section", [("--every", "1"), ("--every", "x"), ("--every", "None"), ("--seed", "3")])
def test_a_wrong_parameter_is_refused_in_one_line(tmp_path, preprocess, section):
    """A parameter that is unknown, no number or too small is bad input: exit code 2, one line, no file."""
    done = preprocess(*section)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert done.stderr.startswith("error: preprocess: preprocess.") and "expected" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw.csv"]
