"""The tab of a real TensorBoard server in a real browser."""

import numpy as np
import pytest

from tests.helpers.boards import server
from tests.helpers.browser import needs_chromium, until
from tests.helpers.page import EXACT, centres, pixels, samples_shown, settled
from tests.helpers.records import RunScript, tile_of

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """A long run and a shorter one that follows the same samples."""
    folder = tmp_path_factory.mktemp("logs")
    RunScript(validations=8).write(folder / "version_0" / "sess_record")
    RunScript(validations=4, seed=5).write(folder / "version_1" / "sess_record")
    broken = RunScript(samples=3, validations=2).write(folder / "version_2" / "sess_record")
    (broken / "record.json").write_text("{")
    return folder


@pytest.fixture(scope="module")
def address(logs):
    with server(logs) as url:
        yield url


# The tab looks for new validations every ten seconds: here every tenth of a second.
OFTEN = """const slowly = window.setInterval;
window.setInterval = (look, period, ...others) => slowly(look, period === 10_000 ? 100 : period, ...others);"""


def opened(page, address, hash_="sess"):
    """The frame of the tab."""
    page.goto(f"{address}/#{hash_}")
    for _ in range(300):
        frame = next((one for one in page.frames if "plugin_entry" in one.url), None)
        if frame is not None and frame.query_selector(".tile, .message:not([hidden])"):
            return frame
        page.wait_for_timeout(100)
    raise AssertionError("the tab does not come up")


def test_pixels_time_and_two_runs(browser, address, logs):
    with browser(1600, 1000, quiet=False) as page:
        frame = opened(page, address)
        settled(frame)
        assert "version_2" in frame.locator(".message").inner_text()  # damaged, and the others are there
        assert samples_shown(frame) == list(range(9))
        frame.evaluate("(values) => window.sess.state.set(values)", {"size": 192, "colours": "grey", **EXACT})
        for number in (2, 7):
            frame.get_by_label("Validation", exact=True).fill(str(number))
            settled(frame)
            tile = tile_of(logs / "version_0" / "sess_record", number, 0)
            drawn = centres(pixels(frame.locator(".tile canvas").first), tile)
            np.testing.assert_array_equal(drawn, np.repeat(tile[..., None], 3, -1))
        frame.get_by_label("Run beside it").select_option(label="version_1")
        settled(frame)
        assert "SESS of version_1" in frame.locator(".numbers .legend").first.inner_text()
        width = frame.locator(".tile canvas").first.evaluate("(one) => one.width")
        assert width == 2 * 192 + 2


def test_a_link_opens_the_same_view(browser, address):
    with browser(1600, 1000, quiet=False) as page:
        frame = opened(page, address)
        settled(frame)
        frame.get_by_label("Validation", exact=True).fill("3")
        frame.get_by_label("Class of the samples").select_option("2")
        settled(frame)
        frame.get_by_role("button", name="copy link").click()
        link = page.url
    assert link.partition("#")[2].startswith("sess&")
    with browser(1600, 1000, quiet=False) as page:
        frame = opened(page, address, link.partition("#")[2])
        settled(frame)
        assert frame.locator(".when b").inner_text() == "epoch 3"
        assert samples_shown(frame) == [2, 5, 8]


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_follow_tensorboard(browser, address, dark):
    with browser(1600, 1000, quiet=False) as page:
        page.goto(f"{address}/?darkMode={str(dark).lower()}#sess")
        until(page, "[...document.querySelectorAll('iframe')].some((one) => one.contentWindow.sess)")
        frame = next(one for one in page.frames if "plugin_entry" in one.url)
        assert frame.evaluate("document.documentElement.dataset.theme") == ("dark" if dark else "light")


def test_new_validations_appear_while_training_writes(browser, tmp_path):
    script = RunScript(samples=3, validations=3)
    record = script.write(tmp_path / "run" / "sess_record")
    with server(tmp_path) as url, browser(1600, 1000, quiet=False) as page:
        page.add_init_script(OFTEN)
        frame = opened(page, url)
        settled(frame)
        assert frame.locator(".when").inner_text() == "epoch 2 · step 36 · 3 of 3"
        script.append(record, 3)
        frame.locator(".when:has-text('4 of 4')").wait_for()
        assert frame.locator(".when b").inner_text() == "epoch 3"  # who looks at the last one goes on with it


def test_without_a_record_it_says_what_to_do(browser, tmp_path):
    (tmp_path / "run").mkdir()
    with server(tmp_path) as url, browser(1600, 1000, quiet=False) as page:
        page.add_init_script(OFTEN)
        frame = opened(page, url)
        assert "Train with SESSCallback()" in frame.locator(".message").inner_text()
        RunScript(samples=3, validations=1).write(tmp_path / "run" / "sess_record")
        frame.locator(".tile").first.wait_for()


def test_what_is_decoded_of_a_long_run_is_bounded(browser, tmp_path):
    RunScript(samples=2, validations=60).write(tmp_path / "run" / "sess_record")
    with server(tmp_path) as url, browser(1600, 1000, quiet=False) as page:
        frame = opened(page, url)
        settled(frame)
        frame.evaluate("async () => { for (const one of window.sess.run.shown) await window.sess.run.atlas(one); }")
        assert frame.evaluate("[window.sess.run.atlases.size, window.sess.run.ready.size]") == [40, 40]
        frame.get_by_label("Validation", exact=True).fill("3")
        settled(frame)
        assert frame.locator(".when").inner_text() == "epoch 3 · step 48 · 4 of 60"


def test_files_are_fetched_while_one_rests_and_stay_bounded(browser, tmp_path):
    RunScript(samples=2, validations=20).write(tmp_path / "run" / "sess_record")
    with server(tmp_path) as url, browser(1600, 1000, quiet=False) as page:
        frame = opened(page, url)
        settled(frame)
        until(frame, "window.sess.run.files.known.size === 20")
        sizes = frame.evaluate("""async () => {
            const {files} = window.sess.run;
            files.most = files.bytes / 2;
            files.forget();
            for (let number = 0; number < 20; number++) await files.of(number);
            return [files.bytes <= files.most, files.known.has(19), files.known.has(0)];
        }""")
        assert sizes == [True, True, False]


def test_a_slider_that_is_dragged_shows_what_it_passes(browser, address):
    with browser(1600, 1000, quiet=False) as page:
        frame = opened(page, address)
        settled(frame)
        epochs = frame.evaluate("""async () => {
            const app = window.sess, seen = [];
            const watch = new MutationObserver(() => seen.push(app.validation.epoch));
            watch.observe(document.querySelector(".when"), {childList: true});
            for (let at = 0; at < 8; at++) {
                app.goTo(app.run.shown[at]);
                await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn, 30)));
            }
            await app.drawn;
            watch.disconnect();
            return seen;
        }""")
        assert epochs == sorted(epochs)
        assert epochs[-1] == 7
        assert len(set(epochs)) > 2
