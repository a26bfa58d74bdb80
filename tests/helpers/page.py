"""The viewer's page, as tests look at it."""

import numpy as np

from tests.helpers.browser import until

PIXELS = """(canvas) => {
  const {width, height} = canvas;
  return [width, height, [...canvas.getContext("2d").getImageData(0, 0, width, height).data]];
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
    return np.array(values, dtype=int).reshape(height, width, 4)


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
