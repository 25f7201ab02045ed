"""Looks at web pages: takes {name: {url, texts}} as JSON on standard input, waits until each page shows its texts,
writes <name>.png below the folder that is the first argument, and prints {name: the page's text} as JSON."""

import json
import sys
from pathlib import Path

from selenium.common.exceptions import TimeoutException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 60  # seconds for a page
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
    "--window-size=1500,1700",
    # No page may fetch anything from elsewhere.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


def text_of(browser: Chrome) -> str:
    return browser.find_element(By.TAG_NAME, "body").text


def look(browser: Chrome, name: str, url: str, texts: list[str], folder: Path) -> str:
    """The text of the page at `url`, once it shows all of `texts` or patience ends; its picture is in `folder`."""
    browser.get("about:blank")  # a change of the part behind # alone would load nothing
    browser.get(url)
    try:
        WebDriverWait(browser, PATIENCE).until(lambda b: all(text in text_of(b) for text in texts))
    except TimeoutException:
        print(f"{name}: not all of {texts} came", file=sys.stderr)
    browser.save_screenshot(str(folder / f"{name}.png"))
    return text_of(browser)


def main() -> None:
    folder = Path(sys.argv[1])
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in FLAGS:
        options.add_argument(flag)
    with Chrome(options, ChromeService("/usr/bin/chromedriver")) as browser:
        pages = json.load(sys.stdin)
        print(json.dumps({name: look(browser, name, folder=folder, **page) for name, page in pages.items()}))


if __name__ == "__main__":
    main()
