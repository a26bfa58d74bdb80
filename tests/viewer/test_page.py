"""The report in a real browser, opened from disk with the network off."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from sess_lightning.viewer.report import write_report
from tests.helpers.browser import browser, needs_chromium, until
from tests.helpers.page import EXACT, centres, pixels, samples_shown, settled
from tests.helpers.records import CLASSES, RunScript, lines_of, tile_of

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def colours(root):
    return np.array(
        [
            list(bytes.fromhex(one))
            for one in json.loads((root / "sess_lightning/viewer/static/colormap.json").read_text())
        ]
    )


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return RunScript().write(tmp_path_factory.mktemp("run") / "sess_record")


@pytest.fixture(scope="module")
def report(record):
    file = record.parent / "sess_report.html"
    write_report([record], file)
    return file


def address(file, **state):
    return f"file://{file}" + ("#" + "&".join(f"{name}={value}" for name, value in state.items()) if state else "")


def opened(page, file, **state):
    page.goto("about:blank")  # another hash alone would load the page a second time, by itself
    page.goto(address(file, **state))
    settled(page)
    return page


class TestOpening:
    def test_nothing_is_asked_of_the_network(self, report):
        asked = []
        with browser(offline=True) as page:
            page.on("request", lambda request: asked.append(request.url))
            opened(page, report)
            page.locator(".tile").first.click()
            page.get_by_label("Play").click()
            settled(page)
        assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [address(report)]

    def test_first_the_last_validation(self, report):
        with browser() as page:
            opened(page, report)
            assert page.locator(".when").inner_text() == "epoch 5 · step 72 · 6 of 6"
            assert samples_shown(page) == list(range(9))

    @pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 1280), (True, 390), (False, 1920)])
    def test_light_dark_and_a_phone(self, report, dark, width):
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
    def test_maps_are_the_recorded_ones(self, report, record, colours, number):
        with browser() as page:
            for sample, size in ((0, 192), (1, 96), (2, 192), (7, 96)):  # square, wide, high
                opened(page, report, at=number, size=size, **EXACT)
                tile = tile_of(record, number, sample)
                drawn = pixels(page.locator(f".tile[data-sample='{sample}'] canvas"))
                np.testing.assert_array_equal(centres(drawn, tile), colours[tile])

    def test_base_and_both(self, report, record, colours):
        tile = tile_of(record, 0, 0, "base")
        with browser() as page:
            opened(page, report, at=0, size=144, show="base", **EXACT)
            alone = pixels(page.locator(".tile canvas").first)
            np.testing.assert_array_equal(centres(alone, tile), colours[tile])
            page.keyboard.press("v")
            settled(page)
            both = centres(pixels(page.locator(".tile canvas").first)[:, :144], tile)
            np.testing.assert_array_equal(both[6:], colours[tile][6:])  # above stands the name of the map

    def test_grey(self, report, record):
        with browser() as page:
            opened(page, report, at=2, size=192, colours="grey", **EXACT)
            tile = tile_of(record, 2, 0)
            np.testing.assert_array_equal(
                centres(pixels(page.locator(".tile canvas").first), tile), np.repeat(tile[..., None], 3, -1)
            )

    def test_without_opacity_the_picture_alone(self, report, record):
        with browser() as page:
            opened(page, report, size=192, opacity=0, boxes=0, peaks=0)
            drawn = pixels(page.locator(".tile canvas").first)[..., :3]
        header = json.loads((record / "record.json").read_text())
        photo = np.array(Image.open(record / header["samples"][0]["image"]).convert("L")).astype(int)
        assert np.ptp(drawn, axis=-1).max() <= 1  # grey
        assert np.abs(drawn[..., 0] - photo).mean() < 8  # the browser's weights of the colours differ a little

    def test_box_and_peak_are_where_the_record_has_them(self, report, record):
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
    def test_slider_and_keys(self, report):
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

    def test_play_runs_from_the_start_to_the_end(self, report):
        with browser() as page:
            opened(page, report)
            page.evaluate("""window.seen = [];
                new MutationObserver(() => window.seen.push(document.querySelector(".when b").textContent))
                    .observe(document.querySelector(".when"), {childList: true, subtree: true})""")
            page.keyboard.press(" ")
            page.get_by_label("Pause").wait_for()
            page.get_by_label("Play").wait_for()
            assert list(dict.fromkeys(page.evaluate("window.seen"))) == [f"epoch {number}" for number in range(6)]

    def test_a_click_on_a_chart_jumps(self, report):
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
    def test_filters_and_their_counts(self, report, record):
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

    def test_orders(self, report, record):
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

    def test_no_sample_left(self, report):
        with browser() as page:
            opened(page, report, at=5, only="wrong", cls=1)
            page.get_by_role("button", name="show all").click()
            settled(page)
            assert samples_shown(page) == list(range(9))


class TestSample:
    def test_all_of_it(self, report, record):
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

    def test_it_opens_at_its_top_and_goes_back_to_where_one_was(self, report):
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

    def test_keys(self, report):
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


class TestTwoRuns:
    @pytest.fixture
    def two(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("two")
        one = RunScript().write(folder / "version_0" / "sess_record")
        other = RunScript(samples=6, validations=4, seed=7).write(folder / "version_1" / "sess_record")
        write_report([one, other], folder / "two.html")
        return folder / "two.html", one, other

    def test_side_by_side_by_epoch_and_pixels(self, two, colours):
        file, one, other = two
        with browser() as page:
            opened(page, file, size=192, **EXACT)
            page.get_by_label("Run beside it").select_option(label="version_1")
            settled(page)
            for epoch, beside in ((1, 1), (5, 3)):
                page.get_by_label("Validation", exact=True).fill(str(epoch))
                settled(page)
                drawn = pixels(page.locator(".tile canvas").first)
                left, right = drawn[20:, :192], drawn[20:, -192:]  # below the names of the runs
                for part, record, number in ((left, one, epoch), (right, other, beside)):
                    tile = tile_of(record, number, 0)
                    # The browser interpolates a little differently on a wide canvas: within four of 255.
                    assert np.abs(part[2::3, 1::3, :3] - colours[tile][7:]).max() <= 4
            legend = page.locator(".numbers .legend").first.inner_text()
            assert "SESS of version_1" in legend

    def test_a_damaged_run_leaves_the_other(self, two, tmp_path):
        _, one, _ = two
        broken = tmp_path / "version_9" / "sess_record"
        RunScript(samples=3, validations=2).write(broken)
        (broken / "record.json").write_text('{"format": "sess_record", "version": 1')
        write_report([broken, one], tmp_path / "report.html")
        with browser() as page:
            opened(page, tmp_path / "report.html")
            assert samples_shown(page) == list(range(9))
            assert "record.json" in page.locator(".message").inner_text()

    def test_only_a_damaged_run(self, tmp_path):
        broken = RunScript(samples=3, validations=2).write(tmp_path / "sess_record")
        (broken / "record.json").write_text("[]")
        write_report([broken], tmp_path / "report.html")
        with browser() as page:
            page.goto(address(tmp_path / "report.html"))
            page.locator(".message").wait_for()
            assert "sess_record" in page.locator(".message").inner_text()


class TestSharing:
    def test_a_link_opens_the_same_view(self, report):
        with browser() as page:
            opened(page, report)
            page.get_by_label("Validation", exact=True).fill("2")
            page.get_by_label("Class of the samples").select_option("1")
            page.keyboard.press("v")
            page.get_by_label("Size of the tiles").fill("200")
            page.locator(".tile").first.click()
            settled(page)
            page.get_by_role("button", name="copy link").click()
            link = page.evaluate("location.href")
            state = page.evaluate("window.sess.state.values")
        assert state | {"at": 2, "cls": "1", "show": "both", "size": 200, "sample": 1} == state
        with browser() as page:
            page.goto(link)
            settled(page)
            assert page.evaluate("window.sess.state.values") == state
            assert page.locator(".sample h2").inner_text() == "square"
            page.keyboard.press("Escape")
            settled(page)
            assert samples_shown(page) == [1, 4, 7]

    @pytest.mark.parametrize("sample", [-1, 1])
    def test_save_picture(self, report, tmp_path, sample):
        with browser(accept_downloads=True) as page:
            opened(page, report, at=3, size=192, sample=sample, **EXACT)
            drawn = pixels(page.locator(".tile canvas" if sample < 0 else ".large canvas").first)[..., :3]
            with page.expect_download() as download:
                page.keyboard.press("s")
            download.value.save_as(tmp_path / "view.png")
            assert download.value.suggested_filename == "sess-epoch-3.png"
        saved = np.array(Image.open(tmp_path / "view.png").convert("RGB")).astype(int)
        found = [at for at in np.argwhere((saved == drawn[40, 40]).all(-1)) if _is_at(saved, drawn, at - 40)]
        assert found, "the picture does not hold what the page shows"


class TestNames:
    def test_names_are_words(self, tmp_path):
        evil = ("<b>bold</b>", "<img src=x onerror=window.bad=1>", "</script><script>window.bad=1</script>")
        record = RunScript(classes=evil).write(tmp_path / "<i>run" / "sess_record")
        write_report([record], tmp_path / "report.html")
        with browser() as page:
            opened(page, tmp_path / "report.html", at=0)
            page.locator(".tile").first.click()
            settled(page)
            assert page.evaluate("window.bad") is None
            assert page.locator("b:text-is('bold'), img, i:text-is('run')").count() == 0
            assert page.locator(".sample h2").inner_text() == evil[0]


class TestWhatIsMissing:
    def test_neither_boxes_nor_base(self, tmp_path):
        record = RunScript(boxes=False, base=False).write(tmp_path / "sess_record")
        write_report([record], tmp_path / "report.html")
        with browser() as page:
            opened(page, tmp_path / "report.html")
            said = page.locator(".count").inner_text()
            assert "no boxes came with the samples" in said
            assert "the base method alone was not compared" in said
            assert not page.locator("[data-show=base]").is_visible()
            page.locator(".tile").first.click()
            settled(page)
            assert page.locator(".large canvas").count() == 2

    def test_no_validation_yet(self, tmp_path):
        record = RunScript(validations=0).write(tmp_path / "sess_record")
        (record / "validations.jsonl").write_text("")
        write_report([record], tmp_path / "report.html")
        with browser() as page:
            page.goto(address(tmp_path / "report.html"))
            page.locator(".message").wait_for()
            assert page.locator(".message").inner_text().endswith("no validation has ended yet.")

    def test_a_long_run_is_thinned_evenly_and_says_so(self, tmp_path):
        record = RunScript(samples=2, validations=100).write(tmp_path / "sess_record")
        write_report([record], tmp_path / "report.html")
        with browser() as page:
            opened(page, tmp_path / "report.html")
            assert "maps of 48 of 100 validations" in page.locator(".when").inner_text()
            epochs = page.evaluate("window.sess.run.shown.map((one) => one.epoch)")
            assert (epochs[0], epochs[-1], len(epochs)) == (0, 99, 48)
            assert set(np.diff(epochs)) <= {2, 3}


def test_a_watermark_is_found_in_one_click(tmp_path):
    """From the first screen to the epoch and class where it takes over."""
    record = RunScript(samples=24, validations=20, classes=("cat", "dog", "car", "ship"), taken_over=12)
    write_report([record.write(tmp_path / "sess_record")], tmp_path / "report.html")
    with browser() as page:
        opened(page, tmp_path / "report.html")
        row = page.locator(".classes .row").first  # the largest fall comes first
        assert row.locator(".name").inner_text() == "ship"
        box = row.locator("canvas").bounding_box()
        row.locator("canvas").click(position={"x": box["width"] * 12.5 / 20, "y": 5})
        settled(page)
        assert page.locator(".when b").inner_text() == "epoch 12"
        assert samples_shown(page) == [3, 7, 11, 15, 19, 23]
        assert page.locator(".tile .mark.miss:text('SESS')").count() == 6


def _distance(one, other):
    a, b = one.astype(float).ravel(), other.astype(float).ravel()
    return 1 - a @ b / np.sqrt((a @ a) * (b @ b))


def _is_at(saved, drawn, corner):
    y, x = corner
    height, width = drawn.shape[:2]
    part = saved[y : y + height, x : x + width] if y >= 0 and x >= 0 else saved[:0]
    return part.shape == drawn.shape and np.array_equal(part, drawn)
