"""What stages wrote, in a page that people open: it is shown, and never becomes a script."""

import base64
import re
from pathlib import Path

import pytest

from scripts.pipeline.stage import Pipeline, Stage
from scripts.registry import plots_page

SCRIPTS = {
    "a script": "</script><script>alert(1)</script>",
    "a script in capitals": "</SCRIPT ><script>alert(1)//",
    "a comment": "<!--<script>",
    "an image": "<img src=x onerror=alert(1)>",
    "an end of a value": "\" onerror='alert(1)",
    "a line end": "\u2028alert(1)",
    "a formula": "$\\foo$",
    "an expression": "{{ 7 * 7 }}{% raw %}",
}


def page_of(root: Path, entry: object) -> tuple[str, str]:
    """Return the page of a project with one plot, and the drawings in it."""
    stage = Stage("one", "", outputs={"o": "out/x"}, plots={"labels": "out/labels.csv"})
    page = plots_page.draw(Pipeline("", {"one": stage}, plots=[entry]), root, root / "dvc_plots")
    assert page is not None
    html = page.read_text()
    return html, "".join(base64.b64decode(found).decode() for found in re.findall(r"svg\+xml;base64,([^\"]+)", html))


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=list(SCRIPTS))
@pytest.mark.parametrize("where", ["a cell", "a header", "a title"])
def test_a_plot(tmp_path: Path, text: str, where: str) -> None:
    """In a cell, a header or a title it is a text of a drawing, and no markup of the page or of the drawing."""
    quoted = '"' + text.replace('"', '""') + '"'
    header = quoted if where == "a header" else "l"
    cells = quoted if where == "a cell" else "a"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "labels.csv").write_text(f"x,y,{header}\n1,2,{cells}\n1,3,{cells}\n")
    look = {"x": "x", "y": "y", "title": text if where == "a title" else "t"}
    html, drawing = page_of(tmp_path, {"out/labels.csv": look})
    assert "<svg" in drawing
    for markup in ("<script", "onerror=", "<!--<"):
        assert markup not in re.sub(r'alt="[^"]*"', "", html).lower()
        assert markup not in re.sub(r"<!--.*?-->|<text.*?</text>", "", drawing, flags=re.DOTALL).lower()
    assert html.count("<img ") == 1 and "49" not in re.sub(r"base64,[^\"]+", "", html)


def test_an_image_with_a_script_for_a_name(tmp_path: Path) -> None:
    """An image whose name would be markup is linked and named as the text that it is."""
    name = '"><img src=x onerror=alert(1)>.png'
    (tmp_path / "out" / "pictures").mkdir(parents=True)
    (tmp_path / "out" / "pictures" / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    stage = Stage("one", "", plots={"pictures": "out/pictures"})
    page = plots_page.draw(Pipeline("", {"one": stage}), tmp_path, tmp_path / "dvc_plots")
    html = page.read_text()
    assert html.count("<img") == 1 and "../out/pictures/%22%3E%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E.png" in html
