"""Looks at web pages: takes {name: {url, texts, curves, cookies}} as JSON on standard input and waits until each page
shows its texts and, by metric, curves of at least so many points. Writes <name>.png below the folder that is the first
argument, and prints {name: {text, curves, errors}} as JSON, where `errors` are what the browser's console tells of."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selenium.common.exceptions import TimeoutException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 120  # seconds for a page
FLAGS = [
    "--headless",
    "--no-sandbox",  # the container is one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--user-data-dir=/tmp/profile",
    "--window-size=1500,2600",  # MLflow draws no chart that is out of sight
    # No page may fetch anything from elsewhere.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
RESIZED = "ResizeObserver loop completed"
"""A browser says so where something changed its size twice within a frame; nothing is lost by that."""
CURVES = """
const cards = [...document.querySelectorAll('[data-testid="experiment-view-compare-runs-card"]')];
return Object.fromEntries(cards.map(card => {
    const plot = card.querySelector('.js-plotly-plot');
    const lines = (plot && plot.data || []).filter(trace => trace.type.startsWith('scatter'));
    return [card.innerText.split('\\n')[0], Math.max(0, ...lines.map(trace => trace.x.length))];
}));
"""
"""The charts of MLflow's metrics page: how many points the line of each metric has."""


def text_of(browser: Chrome) -> str:
    return browser.find_element(By.TAG_NAME, "body").text


def curves_of(browser: Chrome) -> dict[str, int]:
    return browser.execute_script(CURVES)


def is_shown(browser: Chrome, texts: Sequence[str], curves: Mapping[str, int]) -> bool:
    drawn = curves_of(browser) if curves else {}
    return all(drawn.get(name, 0) >= points for name, points in curves.items()) and all(
        text in text_of(browser) for text in texts
    )


def look(
    browser: Chrome,
    name: str,
    folder: Path,
    *,
    url: str,
    texts: Sequence[str] = (),
    curves: Mapping[str, int] = {},
    cookies: Mapping[str, str] = {},
) -> dict[str, Any]:
    """Return what the page at `url` shows once it shows all that is wanted, or patience ends."""
    if cookies:
        browser.get(url)  # a browser takes a cookie for the page that it is at
        for each, value in cookies.items():
            browser.add_cookie({"name": each, "value": value})
    browser.get("about:blank")  # a change of the part behind # alone would load nothing
    browser.get(url)
    try:
        WebDriverWait(browser, PATIENCE).until(lambda b: is_shown(b, texts, curves))
    except TimeoutException:
        print(f"{name}: not all of {[*texts, *curves]} came", file=sys.stderr)
    browser.save_screenshot(str(folder / f"{name}.png"))
    told = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    errors = [message for message in told if RESIZED not in message]
    return {"text": text_of(browser), "curves": curves_of(browser), "errors": errors}


def main() -> None:
    folder = Path(sys.argv[1])
    options = ChromeOptions()
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.binary_location = "/usr/bin/chromium"
    for flag in FLAGS:
        options.add_argument(flag)
    with Chrome(options, ChromeService("/usr/bin/chromedriver")) as browser:
        pages = json.load(sys.stdin)
        print(json.dumps({name: look(browser, name, folder, **page) for name, page in pages.items()}))


if __name__ == "__main__":
    main()
