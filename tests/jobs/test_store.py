"""Rows on disk: whole photos, once each, of one setting."""

import pytest

from sess_lightning.benchmark.tables import write_csv
from sess_lightning.jobs.photos import JobPhoto
from sess_lightning.jobs.store import RowStore


def photo(key):
    return JobPhoto(key, key, f"{key}.png", (8, 8), None, {})


def test_rows_come_back_in_the_order_of_the_photos(tmp_path):
    store = RowStore(tmp_path, "b", {"n": 1})
    store.add("1", photo("2"), [{"photo": "2", "x": 0.1}])
    store.add("0", photo("1"), [{"photo": "1", "x": 1 / 3}, {"photo": "1", "x": None}])
    again = RowStore(tmp_path, "b", {"n": 1})
    assert again.done() == {"1", "2"}
    assert again.rows() == [{"photo": "1", "x": 1 / 3}, {"photo": "1", "x": None}, {"photo": "2", "x": 0.1}]
    write_csv(tmp_path / "b.csv", again.rows())
    assert (tmp_path / "b.csv").read_text().split() == ["photo,x", f"1,{1 / 3!r}", "1,", "2,0.1"]


def test_a_photo_that_two_processes_measured_counts_once(tmp_path):
    store = RowStore(tmp_path, "b", {})
    store.add("0", photo("1"), [{"x": 1}])
    store.add("1", photo("1"), [{"x": 1}])
    assert store.rows() == [{"x": 1}]


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_that_a_kill_cut_short_is_no_line(tmp_path, cut):
    """However much of it is there, the photo is measured again and the next line is whole."""
    store = RowStore(tmp_path, "b", {})
    store.add("0", photo("1"), [{"x": 1}])
    store.add("0", photo("2"), [{"x": 2}])
    file = tmp_path / "b.parts" / "0.jsonl"
    file.write_bytes(file.read_bytes()[: -1 - cut])
    assert store.done() == {"1"}
    store.add("0", photo("2"), [{"x": 3}])
    assert store.rows() == [{"x": 1}, {"x": 3}]


def test_other_settings_are_refused(tmp_path):
    RowStore(tmp_path, "b", {"ratio": 0.9, "methods": "gradcam"})
    with pytest.raises(ValueError, match=r"`ratio` was 0.9 and is 0.5. Pass another --out, or remove"):
        RowStore(tmp_path, "b", {"ratio": 0.5, "methods": "gradcam"})
    RowStore(tmp_path, "other", {"ratio": 0.5})


def test_photos_without_rows_are_done(tmp_path):
    store = RowStore(tmp_path, "b", {})
    store.add("0", photo("1"), [])
    assert store.done() == {"1"}
    assert store.rows() == []
