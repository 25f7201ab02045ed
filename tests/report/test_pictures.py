"""The pictures of a branch's plots."""

from pathlib import Path

from scripts.pipeline.stage import Pipeline, Stage
from scripts.report import pictures


def test_a_plot_of_100_000_points(tmp_path):
    """Its picture has the size of any other one."""
    stage = Stage("score", "", plots={"points": "points.csv"})
    pipeline = Pipeline("", {"score": stage}, plots=[{"points.csv": {"template": "scatter", "x": "x", "y": "y"}}])
    for side, points in (("now", 100_000), ("base", 10)):
        Path(tmp_path, side).mkdir()
        rows = "".join(f"{at},{at * 7919 % 1000}\n" for at in range(points))
        Path(tmp_path, side, "points.csv").write_text(f"x,y\n{rows}")
    Path(tmp_path, "plots").mkdir()
    (found,) = pictures.draw(pipeline, tmp_path / "now", tmp_path / "base", tmp_path / "plots")
    assert all(Path(tmp_path, "plots", found[side]).stat().st_size < 300_000 for side in ("now", "base"))
