"""The report in a real browser, opened from disk with the network off."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from tests.helpers.browser import needs_chromium, until
from tests.helpers.page import EXACT, address, centres, opened, pixels, samples_shown, settled
from tests.helpers.records import CLASSES, lines_of, tile_of

pytestmark = needs_chromium


class TestOpening:
    def test_nothing_is_asked_of_the_network(self, browser, report):
        asked = []
        with browser(offline=True) as page:
            page.on("request", lambda request: asked.append(request.url))
            opened(page, report)
            page.locator(".tile").first.click()
            page.get_by_label("Play").click()
            settled(page)
        assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [address(report)]

    def test_first_the_last_validation(self, browser, report):
        with browser() as page:
            opened(page, report)
            assert page.locator(".when").inner_text() == "epoch 5 · step 72 · 6 of 6"
            assert samples_shown(page) == list(range(9))

    @pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 1280), (True, 390), (False, 1920)])
    def test_light_dark_and_a_phone(self, browser, report, dark, width):
        with browser(width, 800, dark=dark) as page:
            opened(page, report)
            for view in ("gallery", "sample"):
                if view == "sample":
                    page.locator(".tile").first.click()
                    settled(page)
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
                screen = np.array(Image.open(io.BytesIO(page.screenshot())).convert("L"))
                assert (np.median(screen[:30]) < 128) == dark
            page.keyboard.press("Escape")
            page.get_by_label("Light or dark").select_option("light")
            assert np.median(np.array(Image.open(io.BytesIO(page.screenshot())).convert("L"))[:30]) > 128


class TestPixels:
    @pytest.mark.parametrize("number", [0, 3, 5])
    def test_maps_are_the_recorded_ones(self, browser, report, record, colours, number):
        with browser() as page:
            for sample, size in ((0, 192), (1, 96), (2, 192), (7, 96)):  # square, wide, high
                opened(page, report, at=number, size=size, **EXACT)
                tile = tile_of(record, number, sample)
                drawn = pixels(page.locator(f".tile[data-sample='{sample}'] canvas"))
                np.testing.assert_array_equal(centres(drawn, tile), colours[tile])

    def test_base_and_both(self, browser, report, record, colours):
        tile = tile_of(record, 0, 0, "base")
        with browser() as page:
            opened(page, report, at=0, size=144, show="base", **EXACT)
            alone = pixels(page.locator(".tile canvas").first)
            np.testing.assert_array_equal(centres(alone, tile), colours[tile])
            page.keyboard.press("v")
            settled(page)
            both = centres(pixels(page.locator(".tile canvas").first)[:, :144], tile)
            np.testing.assert_array_equal(both[6:], colours[tile][6:])  # above stands the name of the map

    def test_grey(self, browser, report, record):
        with browser() as page:
            opened(page, report, at=2, size=192, colours="grey", **EXACT)
            tile = tile_of(record, 2, 0)
            np.testing.assert_array_equal(
                centres(pixels(page.locator(".tile canvas").first), tile), np.repeat(tile[..., None], 3, -1)
            )

    def test_without_opacity_the_picture_alone(self, browser, report, record):
        with browser() as page:
            opened(page, report, size=192, opacity=0, boxes=0, peaks=0)
            drawn = pixels(page.locator(".tile canvas").first)[..., :3]
        header = json.loads((record / "record.json").read_text())
        photo = np.array(Image.open(record / header["samples"][0]["image"]).convert("L")).astype(int)
        assert np.ptp(drawn, axis=-1).max() <= 1  # grey
        assert np.abs(drawn[..., 0] - photo).mean() < 8  # the browser's weights of the colours differ a little

    def test_box_and_peak_are_where_the_record_has_them(self, browser, report, record):
        with browser() as page:
            opened(page, report, at=5, size=192, opacity=0, boxes=0, peaks=0)
            without = pixels(page.locator(".tile canvas").first)[..., :3]
            page.keyboard.press("o")
            settled(page)
            changed = np.argwhere(np.abs(pixels(page.locator(".tile canvas").first)[..., :3] - without).sum(-1) > 60)
        _, x1, y1, x2, y2 = json.loads((record / "record.json").read_text())["samples"][0]["boxes"][0]
        assert (
            np.abs(
                [changed[:, 1].min() - x1, changed[:, 1].max() - x2, changed[:, 0].min() - y1, changed[:, 0].max() - y2]
            ).max()
            <= 3
        )


class TestTime:
    def test_slider_and_keys(self, browser, report):
        with browser() as page:
            opened(page, report)
            slider = page.get_by_label("Validation", exact=True)
            for number in (2, 0, 4):
                slider.fill(str(number))
                settled(page)
                assert page.locator(".when b").inner_text() == f"epoch {number}"
            page.keyboard.press("ArrowRight")
            settled(page)
            assert page.locator(".when b").inner_text() == "epoch 5"
            for key, epoch in (("ArrowRight", 5), ("ArrowLeft", 4), ("Home", 0), ("ArrowLeft", 0), ("End", 5)):
                page.keyboard.press(key)
                settled(page)
                assert page.locator(".when b").inner_text() == f"epoch {epoch}", key

    def test_play_runs_from_the_start_to_the_end(self, browser, report):
        with browser() as page:
            opened(page, report)
            page.evaluate("""window.seen = [];
                new MutationObserver(() => window.seen.push(document.querySelector(".when b").textContent))
                    .observe(document.querySelector(".when"), {childList: true, subtree: true})""")
            page.keyboard.press(" ")
            page.get_by_label("Pause").wait_for()
            page.get_by_label("Play").wait_for()
            assert list(dict.fromkeys(page.evaluate("window.seen"))) == [f"epoch {number}" for number in range(6)]

    def test_a_click_on_a_chart_jumps(self, browser, report):
        with browser() as page:
            opened(page, report)
            plot = page.locator(".numbers .plot").first
            box = plot.bounding_box()
            plot.click(position={"x": 40, "y": box["height"] / 2})
            settled(page)
            assert page.locator(".when b").inner_text() == "epoch 0"
            plot.click(position={"x": 38 + (box["width"] - 48) * 0.6, "y": box["height"] / 2})
            settled(page)
            assert page.locator(".when b").inner_text() == "epoch 3"


class TestChoosing:
    def test_filters_and_their_counts(self, browser, report, record):
        columns = lines_of(record)[1]["samples"]
        header = json.loads((record / "record.json").read_text())
        labels = [one["label"] for one in header["samples"]]
        rows = range(len(labels))
        wanted = {
            "misses": [i for i in rows if columns["hit"][i] is False],
            "misclassified": [i for i in rows if columns["prediction"][i] != labels[i]],
            "SESS better": [i for i in rows if columns["hit"][i] and not columns["base_hit"][i]],
            "base better": [i for i in rows if columns["base_hit"][i] and not columns["hit"][i]],
        }
        assert wanted["misses"]
        assert wanted["misclassified"]
        with browser() as page:
            opened(page, report, at=1)
            for name, samples in wanted.items():
                button = page.get_by_role("button", name=re.compile(f"^{name} \\d+$"))
                assert button.count() == bool(samples)
                if samples:
                    button.click()
                    settled(page)
                    assert button.inner_text() == f"{name} {len(samples)}"
                    assert samples_shown(page) == samples
                    assert page.locator(".count").inner_text().startswith(f"{len(samples)} of 9 samples")
            page.get_by_role("button", name="all 9").click()
            page.get_by_label("Class of the samples").select_option(label="square (3)")
            settled(page)
            assert samples_shown(page) == [1, 4, 7]

    def test_orders(self, browser, report, record):
        line = lines_of(record)[3]
        columns = line["samples"]
        first = [_distance(tile_of(record, 3, i), tile_of(record, 0, i)) for i in range(9)]
        overall = np.subtract(columns["insertion_auc"], columns["deletion_auc"])
        wanted = {
            "score": np.argsort(columns["score"], kind="stable"),
            "last": np.argsort(np.negative(columns["drift"]), kind="stable"),
            "first": np.argsort(np.negative(first), kind="stable"),
            "overall": np.argsort(overall, kind="stable"),
            "class": np.argsort([i % len(CLASSES) for i in range(9)], kind="stable"),
        }
        with browser() as page:
            opened(page, report, at=3)
            for order, samples in wanted.items():
                page.get_by_label("Order of the samples").select_option(order)
                settled(page)
                assert samples_shown(page) == samples.tolist(), order

    def test_no_sample_left(self, browser, report):
        with browser() as page:
            opened(page, report, at=5, only="wrong", cls=1)
            page.get_by_role("button", name="show all").click()
            settled(page)
            assert samples_shown(page) == list(range(9))


class TestSample:
    def test_all_of_it(self, browser, report, record):
        with browser() as page:
            opened(page, report, at=0)
            page.locator(".tile[data-sample='0']").click()  # misclassified, so there is a second map
            settled(page)
            labels = page.locator(".large canvas").evaluate_all("all => all.map((one) => one.ariaLabel)")
            assert labels == ["image, epoch 0", "base, epoch 0", "SESS, epoch 0", "SESS of square, epoch 0"]
            assert page.locator(".film .frame").count() == 6
            titles = page.get_by_label("Numbers of the sample").locator("figcaption strong").all_inner_texts()
            assert titles == [
                "probability of the class",
                "peak hits the object",
                "insertion",
                "deletion",
                "change since the validation before",
            ]
            scores = json.loads((record / "maps" / "000000.json").read_text())["scores"][0]
            page.locator(".windows figure").nth(1).wait_for()
            captions = page.locator(".windows figcaption").all_inner_texts()
            best = f"{max(scores[1:]):.2f}".lstrip("0")
            assert captions[1] == f"384 \u00d7 384: 4, best {best}"
            page.locator(".film .frame").nth(3).click()
            settled(page)
            assert page.locator(".when b").inner_text() == "epoch 3"

    def test_it_opens_at_its_top_and_goes_back_to_where_one_was(self, browser, report):
        with browser(400, 700) as page:
            opened(page, report)
            page.locator(".tile").last.scroll_into_view_if_needed()
            before = page.evaluate("scrollY")
            page.locator(".tile").last.click()
            settled(page)
            until(page, "scrollY === 0")
            page.keyboard.press("Escape")
            until(page, f"Math.abs(scrollY - {before}) < 4")
            assert before > 300

    def test_keys(self, browser, report):
        with browser() as page:
            opened(page, report)
            page.locator(".tile").nth(2).focus()
            page.keyboard.press("Enter")
            settled(page)
            assert page.locator(".sample h2").inner_text() == "triangle"
            for key, name in (("ArrowDown", "circle"), ("ArrowUp", "triangle"), ("ArrowUp", "square")):
                page.keyboard.press(key)
                settled(page)
                assert page.locator(".sample h2").inner_text() == name
            page.keyboard.press("Escape")
            settled(page)
            assert page.locator(".tile").count() == 9
            page.keyboard.press("ArrowDown")
            page.keyboard.press("ArrowDown")
            assert page.evaluate("document.activeElement.dataset.sample") == "1"
            page.keyboard.press("b")
            settled(page)
            assert page.locator("[data-show=base]").get_attribute("aria-pressed") == "true"
            page.keyboard.press("?")
            assert page.get_by_role("heading", name="Keys").is_visible()


def _distance(one, other):
    a, b = one.astype(float).ravel(), other.astype(float).ravel()
    return 1 - a @ b / np.sqrt((a @ a) * (b @ b))
