"""The table of keys and tags: README, docs and docstring say what it says, and a fit logs what it holds."""

import re

import pytest

from sess_lightning import SESSCallback
from sess_lightning.callback.chosen_metrics import build_metrics
from sess_lightning.callback.keys import KEYS, SRG, TAGS, metric_charts
from sess_lightning.metrics import SymmetricRelevanceGain
from tests.helpers.boards import METRICS, callback, events, fit, scenes


def rows(text, first):
    """The cells of a Markdown table, which is the one whose first heading is `first`."""
    lines = iter(line.strip() for line in text.splitlines())
    next(line for line in lines if re.match(rf"\| {first} \|", line))
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table[1:]  # without the rule below the heading


@pytest.mark.parametrize("page", ["README.md", "docstring"])
def test_the_full_table_of_keys(root, page):
    text = SESSCallback.__doc__ if page == "docstring" else (root / page).read_text()
    assert rows(text, "key") == [[f"`sess/{key.name}`", key.meaning, key.better, key.absent] for key in KEYS]


@pytest.mark.parametrize("page", ["README.md", "docs/watching.md", "docstring"])
def test_which_keys_the_base_method_has(root, page):
    text = SESSCallback.__doc__ if page == "docstring" else (root / page).read_text()
    assert [key.per_method for key in KEYS] == [True] * 6 + [False] * 6
    assert re.search(r"\(but\s+for\s+the\s+last\s+six,\s+which\s+are\s+not\s+per\s+method\)", text)


def test_questions_of_the_page_about_watching(root):
    text = (root / "docs" / "watching.md").read_text()
    table = rows(text, "key")
    found = {name: question for names, question, _ in table for name in re.findall(r"`sess/(\w+)`", names)}
    assert found.keys() == {key.name for key in KEYS}
    for key in KEYS:
        if key.per_method:
            assert ("lower is better" in found[key.name]) == (key.better == "lower"), key.name


def test_the_full_table_of_tags():
    pictures = [[f"`sess/{tag.name}`", tag.what, tag.when] for tag in TAGS]
    assert [row for row in rows(SESSCallback.__doc__, "tag") if row[0] != "custom scalars"] == pictures


@pytest.mark.parametrize(("page", "heading"), [("README.md", " "), ("docs/watching.md", "tag")])
def test_tags_of_the_pages(root, page, heading):
    text = (root / page).read_text()
    section = text[text.index("Beside the numbers") :].replace("| | |", "|   |", 1) if heading == " " else text
    names = [row[0] for row in rows(section, heading) if row[0] != "custom scalars"]
    assert names == [f"`sess/{tag.name}`" for tag in TAGS]


def test_no_page_names_another_key(root):
    known = {tag.name for tag in TAGS} | {key.name for key in KEYS} | {f"base_{k.name}" for k in KEYS if k.per_method}
    for page in [root / "README.md", *(root / "docs").glob("*.md"), *(root / "examples").glob("*.py")]:
        named = set(re.findall(r"(?<!tests/)\bsess/(?:photos/)?(\w+)", page.read_text()))
        assert named <= known, page.name


def test_directions_are_those_of_the_metrics():
    measured = [key for key in KEYS if key.metric is not None]
    titles = ["insertion", "deletion", "pointing", "srg", "drift", "object_reliance", "background_reliance"]
    assert [key.title for key in measured] == titles
    for key in measured:
        assert key.metric.higher_is_better == {"higher": True, "lower": False, "": None}[key.better]


@pytest.mark.parametrize("more", [{}, {"srg": SymmetricRelevanceGain(steps=7)}])
def test_a_fit_logs_all_of_them_and_nothing_else(tmp_path, more):
    t = fit(
        tmp_path,
        callback(num_samples=24, num_images=3, metrics={**METRICS, **more}),
        epochs=2,
        data=scenes(val_size=24),
    )
    board = events(t.logger.log_dir)
    keys = [key for key in KEYS if key is not SRG or more]
    expected = {key.name for key in keys} | {f"base_{key.name}" for key in keys if key.per_method}
    assert {key.removeprefix("sess/") for key in t.callback_metrics if "sess" in key} == expected
    assert {tag.removeprefix("sess/") for tag in board.Tags()["scalars"] if "sess" in tag} == expected
    shown = {*board.Tags()["images"], *(tag for tag in board.Tags()["tensors"] if "custom" not in tag)}
    named = {tag.removesuffix("/text_summary") for tag in shown}
    elsewhere = {"sess/alarms", "sess/worst", "sess/new_errors"}  # told where there is one; with `follow`
    assert named | elsewhere == {f"sess/{tag.name}" for tag in TAGS}
    assert not named & {"sess/worst", "sess/new_errors"}


def test_relevance_gain_by_name():
    """Not by default; then with the activation of `sess`, like insertion and deletion."""
    assert "srg" not in SESSCallback().metrics
    (metric,) = build_metrics(["srg"], "sigmoid").values()
    assert isinstance(metric, SymmetricRelevanceGain)
    assert metric.activation == "sigmoid"


def test_order_of_charts():
    """What says most comes first, metrics of the user's own after it; a base value alone has a chart of its own."""
    names = ["deletion_auc", "insertion_auc", "mine", "base_mine", "overall", "pointing_acc", "base_other", "seconds"]
    charts = metric_charts(names, "watch", "/1")
    assert list(charts) == [
        "overall", "pointing_acc", "base_other", "mine, SESS and base", "insertion_auc", "deletion_auc",
        "insertion (higher is better) against deletion (lower is better)",
    ]  # fmt: skip
    assert charts["mine, SESS and base"] == ["watch/mine/1", "watch/base_mine/1"]
