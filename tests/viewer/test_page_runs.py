"""The report in a real browser: several runs, links and pictures of a view, names, what is missing."""

import json

import numpy as np
import pytest
from PIL import Image

from sess_lightning.viewer.report import write_report
from tests.helpers.browser import needs_chromium
from tests.helpers.page import EXACT, address, opened, pixels, samples_shown, settled
from tests.helpers.records import RunScript, tile_of

pytestmark = needs_chromium


def test_what_chance_scores_is_a_line_in_its_own_chart(browser, tmp_path):
    """Only in the chart of the number that the record has it for; a record without has no line."""
    record = RunScript(samples=3, validations=3).write(tmp_path / "sess_record")
    header = json.loads((record / "record.json").read_text())
    for known in ({}, {"no_skill": {"pointing_acc": 0.125}}):
        (record / "record.json").write_text(json.dumps({**header, **known}))
        write_report([record], tmp_path / "report.html")
        with browser() as page:
            opened(page, tmp_path / "report.html", **EXACT)
            charts = page.locator(".numbers .chart").filter(has=page.locator(".noskill"))
            titles = [one.locator("strong").inner_text() for one in charts.all()]
            assert titles == (["pointing"] if known else [])
            if known:
                assert "by chance .125" in charts.locator(".legend").inner_text()
                assert charts.locator("svg .noskill").count() == 1


def test_alarms_are_said_above_the_gallery_and_lead_to_their_class(browser, tmp_path):
    """Only in the validations that have one; a sentence about all classes is no button; names are no HTML."""
    record = RunScript(samples=6, validations=3).write(tmp_path / "sess_record")
    path = record / "validations.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[2]["alarms"] = [{"text": "All classes", "class": None}, {"text": "Class '<b>disc</b>'", "class": 1}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_report([record], tmp_path / "report.html")
    with browser() as page:
        opened(page, tmp_path / "report.html", **EXACT)
        alarms = page.get_by_role("status", name="Alarms")
        assert alarms.locator("li").all_inner_texts() == ["All classes", "Class '<b>disc</b>'"]
        everything = samples_shown(page)
        alarms.get_by_role("button").click()
        settled(page)
        shown = samples_shown(page)
        assert 0 < len(shown) < len(everything)
        page.keyboard.press("Home")
        settled(page)
        assert alarms.is_hidden()


def test_a_map_that_is_missing_costs_its_validation_alone(browser, tmp_path):
    record = RunScript(samples=3, validations=3).write(tmp_path / "sess_record")
    (record / "maps" / "000001.png").unlink()
    write_report([record], tmp_path / "report.html")
    with browser() as page:
        opened(page, tmp_path / "report.html", **EXACT)
        message = page.locator(".message")
        assert message.is_hidden()
        assert len(samples_shown(page)) == 3
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("!document.querySelector('.message').hidden")
        assert "Epoch 1 cannot be shown" in message.inner_text()
        page.keyboard.press("ArrowLeft")
        settled(page)
        assert message.is_hidden()
        assert "epoch 0" in page.locator(".timeline").inner_text()


class TestTwoRuns:
    @pytest.fixture
    def two(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("two")
        one = RunScript().write(folder / "version_0" / "sess_record")
        other = RunScript(samples=6, validations=4, seed=7).write(folder / "version_1" / "sess_record")
        write_report([one, other], folder / "two.html")
        return folder / "two.html", one, other

    def test_side_by_side_by_epoch_and_pixels(self, browser, two, colours):
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

    def test_a_damaged_run_leaves_the_other(self, browser, two, tmp_path):
        _, one, _ = two
        broken = tmp_path / "version_9" / "sess_record"
        RunScript(samples=3, validations=2).write(broken)
        (broken / "record.json").write_text('{"format": "sess_record", "version": 1')
        write_report([broken, one], tmp_path / "report.html")
        with browser() as page:
            opened(page, tmp_path / "report.html")
            assert samples_shown(page) == list(range(9))
            assert "record.json" in page.locator(".message").inner_text()

    def test_only_a_damaged_run(self, browser, tmp_path):
        broken = RunScript(samples=3, validations=2).write(tmp_path / "sess_record")
        (broken / "record.json").write_text("[]")
        write_report([broken], tmp_path / "report.html")
        with browser() as page:
            page.goto(address(tmp_path / "report.html"))
            page.locator(".message").wait_for()
            assert "sess_record" in page.locator(".message").inner_text()


class TestSharing:
    def test_a_link_opens_the_same_view(self, browser, report):
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
    def test_save_picture(self, browser, report, tmp_path, sample):
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
    def test_names_are_words(self, browser, tmp_path):
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
    def test_neither_boxes_nor_base(self, browser, tmp_path):
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

    def test_no_validation_yet(self, browser, tmp_path):
        record = RunScript(validations=0).write(tmp_path / "sess_record")
        (record / "validations.jsonl").write_text("")
        write_report([record], tmp_path / "report.html")
        with browser() as page:
            page.goto(address(tmp_path / "report.html"))
            page.locator(".message").wait_for()
            assert page.locator(".message").inner_text().endswith("no validation has ended yet.")

    def test_a_long_run_is_thinned_evenly_and_says_so(self, browser, tmp_path):
        record = RunScript(samples=2, validations=100).write(tmp_path / "sess_record")
        write_report([record], tmp_path / "report.html")
        with browser() as page:
            opened(page, tmp_path / "report.html")
            assert "maps of 48 of 100 validations" in page.locator(".when").inner_text()
            epochs = page.evaluate("window.sess.run.shown.map((one) => one.epoch)")
            assert (epochs[0], epochs[-1], len(epochs)) == (0, 99, 48)
            assert set(np.diff(epochs)) <= {2, 3}


def test_a_watermark_is_found_in_one_click(browser, tmp_path):
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


def _is_at(saved, drawn, corner):
    y, x = corner
    height, width = drawn.shape[:2]
    part = saved[y : y + height, x : x + width] if y >= 0 and x >= 0 else saved[:0]
    return part.shape == drawn.shape and np.array_equal(part, drawn)
