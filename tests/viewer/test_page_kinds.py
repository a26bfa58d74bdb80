"""The report in a real browser: samples of several kinds, whose chips, marks and numbers tell them apart."""

import json

import pytest

from sess_lightning.viewer.report import write_report
from tests.helpers.browser import needs_chromium
from tests.helpers.page import opened, samples_shown, settled
from tests.helpers.records import RunScript

pytestmark = needs_chromium

KINDS = ["random", "random", "random", "random", "random worst", "random", "worst", "worst new_error", "new_error"]


@pytest.fixture
def report(tmp_path):
    """The last validation has samples of all kinds, the others the six random ones alone."""
    record = RunScript(validations=3).write(tmp_path / "sess_record")
    path = record / "validations.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[:2]:
        line["samples"] = {name: column[:6] for name, column in line["samples"].items()} | {"kind": ["random"] * 6}
        for kind in ("sess", "base", "second"):
            line["maps"][kind] = line["maps"][kind][:6]
    for line in lines[:2]:
        line["scores"] = None
    lines[2]["samples"] |= {"kind": KINDS, "score": [0.5] * 6 + [0.0] * 3}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_report([record], tmp_path / "report.html")
    return tmp_path / "report.html"


def test_a_chip_for_each_kind(browser, report):
    with browser() as page:
        opened(page, report)
        for name, samples in {"random": range(6), "worst": [4, 6, 7], "new errors": [7, 8]}.items():
            button = page.get_by_role("button", name=f"{name} {len(samples)}", exact=True)
            button.click()
            settled(page)
            assert button.get_attribute("aria-pressed") == "true"
            assert samples_shown(page) == list(samples)
        page.keyboard.press("Home")
        page.get_by_role("button", name="show all").click()
        settled(page)
        assert samples_shown(page) == list(range(6))
        for name in ("worst", "new errors"):
            assert page.get_by_role("button", name=f"{name} 0", exact=True).is_hidden()


def test_marks_and_words(browser, report):
    with browser() as page:
        opened(page, report)
        assert page.locator(".count").inner_text() == "9 of 9 samples · numbers are of the 6 random ones."
        for sample, marks in {0: [], 4: ["worst"], 6: ["worst"], 7: ["worst", "new error"], 8: ["new error"]}.items():
            tile = page.locator(f".tile[data-sample='{sample}']")
            texts = tile.locator(".mark").all_inner_texts()
            assert [one for one in texts if one in ("worst", "new error")] == marks
            label = tile.locator("canvas").get_attribute("aria-label")
            assert ("shown as" in label) == bool(marks)
        page.locator(".tile[data-sample='7']").click()
        settled(page)
        assert page.locator(".film .frame").count() == 1  # of the validation that it was in
        assert "new error" in page.locator(".sample .caption").inner_text()


def test_numbers_of_the_random_ones_alone(browser, report):
    """Their probabilities are one half, those of the others 0."""
    with browser() as page:
        opened(page, report)
        page.get_by_label("Measure of the classes").select_option("score")
        settled(page)
        assert page.locator(".row output").all_inner_texts() == [".50"] * 3
        assert page.locator(".row output").first.get_attribute("title") == "mean of 2 samples"


def test_a_record_without_kinds_has_no_such_chip(browser, tmp_path):
    write_report([RunScript(validations=2).write(tmp_path / "sess_record")], tmp_path / "report.html")
    with browser() as page:
        opened(page, tmp_path / "report.html")
        for name in ("random", "highest", "new"):
            assert page.locator(f"[data-only={name}]").is_hidden()
        assert page.locator(".count").inner_text() == "9 of 9 samples."
