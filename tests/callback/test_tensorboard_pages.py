"""The pages that people look at, drawn by a real browser in light and in dark. Run by hand with -m slow.

With SESS_SCREENSHOTS set to a folder, the screenshots stay there to be looked at.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.boards import callback, fit, server
from tests.helpers.browser import needs_chromium

IMAGES = """
const found = [];
const search = (node) => {
  for (const child of node.querySelectorAll('*')) {
    if (child.tagName === 'IMG' && child.src.includes('individualImage') && child.naturalWidth) found.push(child);
    if (child.shadowRoot) search(child.shadowRoot);
  }
};
search(document);
return found.map((image) => [image.naturalWidth, image.naturalHeight]);
"""
# Charts with two lines drawn.
LINES = """
const found = [];
const search = (node) => {
  for (const child of node.querySelectorAll('*')) {
    if (child.tagName === 'VZ-LINE-CHART2') {
      const paths = [...(child.shadowRoot || child).querySelectorAll('path')];
      if (paths.filter((path) => (path.getAttribute('d') || '').length > 60).length >= 2) found.push(child);
    }
    if (child.shadowRoot) search(child.shadowRoot);
  }
};
search(document);
return found.length;
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board")
    fit(folder, callback(), epochs=4)
    with server(folder) as url:
        yield url


@pytest.fixture
def folder(tmp_path):
    return Path(os.environ.get("SESS_SCREENSHOTS", tmp_path))


def brightness(file):
    """Of the page's margin at the bottom left, where nothing is drawn."""
    return float(np.array(Image.open(file).convert("L"))[-40:-20, 20:200].mean())


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_pages(browser, address, folder, mode):
    with browser(1600, 1400, quiet=False) as page:  # of TensorBoard's own scripts
        page.goto(f"{address}/?darkMode={str(mode == 'dark').lower()}#images")
        page.wait_for_function(f"(() => {{ {IMAGES} }})().length >= 3")
        sizes = page.evaluate(f"(() => {{ {IMAGES} }})()")
        page.screenshot(path=folder / f"images_{mode}.png")
        assert all(width > 300 and height > 100 for width, height in sizes)
        page.goto(f"{address}/?darkMode={str(mode == 'dark').lower()}#custom_scalars")
        page.wait_for_function(f"(() => {{ {LINES} }})() >= 5")
        page.screenshot(path=folder / f"custom_scalars_{mode}.png")
    for name in ("images", "custom_scalars"):
        assert (brightness(folder / f"{name}_{mode}.png") > 128) == (mode == "light")
