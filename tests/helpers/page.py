"""The viewer's page, as tests look at it."""

from base64 import b64decode

import numpy as np

from tests.helpers.browser import until

# As text, since a list of a million numbers takes seconds on its way out of the browser.
PIXELS = """(canvas) => {
  const {width, height} = canvas;
  const {data} = canvas.getContext("2d").getImageData(0, 0, width, height);
  let bytes = "";
  for (let at = 0; at < data.length; at += 8192) bytes += String.fromCharCode(...data.subarray(at, at + 8192));
  return [width, height, btoa(bytes)];
}"""
EXACT = {"opacity": 100, "boxes": 0, "peaks": 0}  # the colours of the maps alone


def settled(page):
    """Until what the state asks for is drawn."""
    until(page, "window.sess && window.sess.run")
    page.evaluate("""async () => {
        let last;
        do { last = window.sess.drawn; await last; } while (last !== window.sess.drawn);
        await Promise.all(window.sess.run.images.values());
    }""")


def pixels(locator):
    width, height, values = locator.evaluate(PIXELS)
    return np.frombuffer(b64decode(values), np.uint8).astype(int).reshape(height, width, 4)


def centres(picture, tile):
    """The pixels of a drawing that lie on the middles of the tile's pixels; it is drawn three times as large."""
    assert picture.shape[:2] == (3 * tile.shape[0], 3 * tile.shape[1])
    return picture[1::3, 1::3, :3]


def samples_shown(page):
    return page.locator(".tile").evaluate_all("all => all.map((one) => Number(one.dataset.sample))")


def address(file, **state):
    return f"file://{file}" + ("#" + "&".join(f"{name}={value}" for name, value in state.items()) if state else "")


def opened(page, file, **state):
    page.goto("about:blank")  # another hash alone would load the page a second time, by itself
    page.goto(address(file, **state))
    settled(page)
    return page
