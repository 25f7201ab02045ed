"""Draws the plots that dvc.yaml defines as PNG files, for MLflow's pages, which show no DVC plots."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scripts.project import ROOT


def draw(plots: Iterable[Mapping[str, Mapping[str, Any]]], folder: Path) -> list[Path]:
    """Draws each entry of dvc.yaml's `plots` (a CSV file and how to show it) into `folder`; the files written."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    import pandas as pd

    written = []
    for plot in plots:
        for name, look in plot.items():
            figure, axes = plt.subplots(figsize=(6, 4.5), layout="constrained")
            _draw_one(axes, pd.read_csv(ROOT / name), look)
            axes.set_title(look.get("title", name))
            target = folder / Path(name).with_suffix(".png").name
            figure.savefig(target, dpi=120)
            plt.close(figure)
            written.append(target)
    return written


def warm_up() -> None:
    """Draws for nobody: what matplotlib does at the first picture (fonts, layout) takes as long as three more."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(layout="constrained")
    axes.plot([0, 1], [0, 1], label="warm up")
    axes.set(title="warm up", xlabel="x", ylabel="y")
    axes.legend()
    figure.savefig(io.BytesIO())
    plt.close(figure)


def _draw_one(axes: Any, table: Any, look: Mapping[str, Any]) -> None:
    x, y = look["x"], look["y"]
    if look.get("template") == "confusion":
        from sklearn.metrics import ConfusionMatrixDisplay

        ConfusionMatrixDisplay.from_predictions(table[x], table[y], ax=axes, colorbar=False, cmap="Blues")
    elif look.get("template") == "bar_horizontal":
        axes.barh(table[y][::-1], table[x][::-1])
        axes.set_xlabel(x)
    else:
        others = [column for column in table.columns if column not in (x, y)]
        lines = table.groupby(others[0]) if others else [(None, table)]
        for label, rows in lines:
            axes.plot(rows[x], rows[y], label=label, drawstyle="steps-post", alpha=0.8)
        axes.set(xlabel=x, ylabel=y)
        if others:
            axes.legend(title=others[0])
