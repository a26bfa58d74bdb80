"""Timers, memory and tables of the benchmarks."""

import csv
import time
from pathlib import Path

import pytest
import torch

from sess_lightning.benchmark.tables import markdown, write_csv
from sess_lightning.benchmark.timing import alternate, fastest, peak_megabytes, seconds

CPU = torch.device("cpu")


def test_works_take_turns():
    order = []
    times = alternate([lambda: order.append("a"), lambda: order.append("b")], CPU, repeats=3)
    assert order == ["a", "b"] * 3
    assert [len(own) for own in times] == [3, 3]
    assert all(t >= 0 for own in times for t in own)


def test_seconds_is_the_time_of_the_call():
    assert seconds(lambda: time.sleep(0.05), CPU) >= 0.05


def test_fastest_counts_the_amount_of_work():
    works = [lambda: time.sleep(0.02), lambda: time.sleep(0.04), lambda: time.sleep(0.2)]
    assert fastest(works, [1, 4, 4], CPU) == 1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_peak_memory_sees_what_is_let_go():
    def work():
        block = torch.ones(64 * 2**20)  # 256 MiB, touched
        time.sleep(0.02)
        return float(block[0])

    before = peak_megabytes(lambda: time.sleep(0.02), CPU)
    assert 200 < peak_megabytes(work, CPU) - before < 400


def test_an_error_in_the_work_ends_the_watching():
    def fail():
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        peak_megabytes(fail, CPU)


def test_tables(tmp_path):
    rows = [{"method": "gradcam", "s": 0.12345}, {"method": "groupcam", "s": 2.0}]
    write_csv(tmp_path / "t.csv", rows)
    with (tmp_path / "t.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"method": "gradcam", "s": "0.12345"}, {"method": "groupcam", "s": "2.0"}]
    assert markdown(rows, {"method": "", "s": ".2f"}).splitlines() == [
        "| method | s |", "|---|---|", "| gradcam | 0.12 |", "| groupcam | 2.00 |",
    ]  # fmt: skip
