"""Take a picture of a report, e.g. the first one of the README:

python examples/viewer_picture.py runs/quickstart/version_0/sess_report.html docs/viewer.png

Needs Playwright (pip install playwright) and Chromium.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright


def main(report: str, picture: str, state: str = "") -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{Path(report).resolve().as_uri()}#{state}")
        page.locator(".tile").first.wait_for()
        page.wait_for_timeout(1000)
        page.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
