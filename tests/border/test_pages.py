"""What stages wrote, in a page that people open: it is shown, and never becomes a script."""

import re
from pathlib import Path

import pytest

from scripts.pipeline import dvc_adapter
from scripts.project import UserError
from tests.unit.conftest import empty_repository  # noqa: F401

SCRIPTS = {
    "a script": "</script><script>alert(1)</script>",
    "a script in capitals": "</SCRIPT ><script>alert(1)//",
    "a comment": "<!--<script>",
    "an image": "<img src=x onerror=alert(1)>",
    "an end of data": ']}; alert(1); "',
    "a line end": "\u2028alert(1)",
    "a formula": "$\\foo$",
    "an expression": "datum.x; alert(1)",
}


@pytest.fixture
def repository(empty_repository: Path, tmp_path: Path) -> Path:  # noqa: F811
    """A DVC repository with one plot, still without data."""
    import shutil

    root = tmp_path / "project"
    shutil.copytree(empty_repository, root)
    (root / "dvc.yaml").write_text(
        "stages:\n  one:\n    cmd: 'true'\n    plots:\n    - out/labels.csv:\n"
        "        cache: false\n        x: x\n        y: y\n"
    )
    (root / "out").mkdir()
    return root


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=list(SCRIPTS))
@pytest.mark.parametrize("where", ["a cell", "a header"])
def test_a_plot(repository: Path, text: str, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a cell or a header of a plot's file it stays within the script that holds the data, as the text it is."""
    monkeypatch.chdir(repository)
    quoted = '"' + text.replace('"', '""') + '"'
    table = f"x,y,l\n1,2,{quoted}\n" if where == "a cell" else f"x,y,{quoted}\n1,2,3\n"
    (repository / "out" / "labels.csv").write_text(table)
    with dvc_adapter.repository(repository) as repo:
        page = dvc_adapter.draw_plots(repo, repository / "dvc_plots")
    assert page is not None
    html = page.read_text()
    scripts = re.findall(r"<script.*?</script>", html, re.DOTALL)
    data = [script for script in scripts if "vegaEmbed" in script or "spec" in script]
    assert len(re.findall("<script", html, re.I)) == len(re.findall("</script", html, re.I)) == len(scripts)
    assert len(data) == 1 and "<" not in data[0].removeprefix("<script").removesuffix("</script>").partition(">")[2]
    assert "<img" not in html and "<!--" not in html


def test_an_image_with_a_script_for_a_name(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image whose name would be markup is refused by name."""
    monkeypatch.chdir(repository)
    name = '"><img src=x onerror=alert(1)>.png'
    (repository / "dvc.yaml").write_text("stages:\n  one:\n    cmd: 'true'\n    plots:\n    - out/pictures\n")
    (repository / "out" / "pictures").mkdir()
    (repository / "out" / "pictures" / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    with dvc_adapter.repository(repository) as repo, pytest.raises(UserError, match="an image of the plots is called"):
        dvc_adapter.draw_plots(repo, repository / "dvc_plots")
