"""Headless Chromium, driven by Playwright."""

import shutil
import time
from contextlib import contextmanager
from functools import partial

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="needs chromium")


def until(page, expression, seconds=60):
    """Wait until a script's expression is true. Playwright's own waiting needs eval, which the report forbids."""
    for _ in range(20 * seconds):
        if page.evaluate(expression):
            return
        time.sleep(0.05)
    raise AssertionError(f"{expression} does not come true")


@contextmanager
def launched():
    """Headless Chromium, which takes seconds to start: yields what opens a page of it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield partial(_page, chromium)
        finally:
            chromium.close()


@contextmanager
def _page(chromium, width=1280, height=800, dark=False, quiet=True, **options):
    """A page that shares nothing with others. With `quiet`, an error of a script in it fails the test at the end."""
    errors = []
    context = chromium.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", **options
    )
    page = context.new_page()
    page.set_default_timeout(30_000)
    if quiet:
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    try:
        yield page
    finally:
        context.close()
    assert errors == []
