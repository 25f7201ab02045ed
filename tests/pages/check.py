"""Opens each file below the folder that is the first argument as a page, in light and dark, 1280 and 390 pixels wide.

Prints as JSON, by "<page> <scheme> <width>": what the browser's console had against it, what addresses it asked for,
the serious faults that axe-core finds, the milliseconds until it was loaded, and by how many pixels it is too wide.
A picture of each lies beside it.
"""

import json
import sys
from pathlib import Path
from typing import Any

from look import FLAGS
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

SCHEMES, WIDTHS = ("light", "dark"), (1280, 390)
AXE = Path("/app/axe.min.js").read_text()
SERIOUS = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(
    found => done(found.violations.filter(fault => ["serious", "critical"].includes(fault.impact)).map(
        fault => [fault.id, fault.help, ...fault.nodes.slice(0, 3).map(node => node.target.join(" "))].join(": "))),
    error => done([String(error)]));
"""
TOO_WIDE = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
LOADED = "const [found] = performance.getEntriesByType('navigation'); return found.loadEventEnd"


def asked_for(browser: Chrome) -> list[str]:
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    found = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    return [url for url in found if not url.startswith("data:")]


def check(browser: Chrome, page: Path, scheme: str, width: int) -> dict[str, Any]:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    look = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", look)
    browser.get("about:blank")
    for log in ("browser", "performance"):
        browser.get_log(log)  # what was before
    browser.get(page.as_uri())
    found = {"loaded": browser.execute_script(LOADED), "too_wide": browser.execute_script(TOO_WIDE)}
    found |= {"asked_for": asked_for(browser), "console": [entry["message"] for entry in browser.get_log("browser")]}
    browser.execute_script(AXE)
    found["faults"] = browser.execute_async_script(SERIOUS)
    browser.save_screenshot(str(page.with_name(f"{page.stem}-{scheme}-{width}.png")))
    return found


def main() -> None:
    options = ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in FLAGS:
        options.add_argument(flag)
    pages = sorted(Path(sys.argv[1]).glob("*.html"))
    with Chrome(options, ChromeService("/usr/bin/chromedriver")) as browser:
        browser.set_script_timeout(60)
        wanted = [(page, scheme, width) for page in pages for scheme in SCHEMES for width in WIDTHS]
        print(json.dumps({f"{each[0].stem} {each[1]} {each[2]}": check(browser, *each) for each in wanted}))


if __name__ == "__main__":
    main()
