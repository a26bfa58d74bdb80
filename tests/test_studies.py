"""`studies/alarm.py`: what its tables say of runs whose figures are known in closed form."""

import json
import sys

import numpy as np
import pytest

from sess_lightning.callback.alarm import LIMIT
from studies import alarm as study
from studies.alarm import CUES, LIMITS, SHARES, Run, chosen_limit, false_alarms, hits, level, read, roc

NEVER = float("inf")


def run(kind="mark", share=1.0, seed=1, fall=0.5, levels=(NEVER, NEVER, NEVER), reliance=0.0, accuracy=0.9):
    return Run(kind, share, seed, fall, accuracy, reliance, levels, 0)


def row(on_object, on_background, count=8, wrong=0):
    """A validation of so many samples of class 0, of which the first ones are wrong."""
    return {
        "target": [0] * count, "pred": [1] * wrong + [0] * (count - wrong), "score": [1.0] * count,
        "hit": [True] * count, "object_reliance": [on_object] * count, "background_reliance": [on_background] * count,
    }  # fmt: skip


def notes(*rows, kind="mark", share=1.0, seed=1, last=(0.9, 0.3)):
    return {"kind": kind, "strength": share, "seed": seed, "acc": [[0.1, 0.1], [0.2, 0.2], [0.8, 0.3], last],
            "rows": [*rows, row(0.0, 0.0)]}  # fmt: skip


def test_area_under_roc():
    assert roc([3, 4, 1, 2], [True, True, False, False]).value == 1
    assert roc([1, 2, 3, 4], [True, True, False, False]).value == 0
    assert roc([1, 1, 1], [True, False, False]).value == 0.5
    assert roc([2, 2, 1, 3], [True, True, False, False]).value == 0.5
    assert roc([5, 2, 1, 3], [True, True, False, False]).value == 0.75
    assert np.isnan(roc([1, 2], [True, True]).value)
    found = roc([5, 2, 1, 3] * 5, [True, True, False, False] * 5)
    assert 0.4 < found.low < found.value == 0.75 < found.high < 1


def test_the_lowest_limit_with_an_alarm():
    """All samples have one difference, so its interval has no width."""
    assert level(study.evidence(row(0.1, 0.225))) == -0.12  # -0.125 lies below it
    assert level(study.evidence(row(0.1, 0.0))) == 0.11
    assert level(study.evidence(row(0.9, 0.0))) == NEVER
    assert level(study.evidence(row(0.0, 0.9))) == LIMITS[0]
    assert level(study.evidence(row(0.0, 0.9, wrong=4))) == NEVER  # too few are right


def test_what_is_read_of_a_training():
    found = read(notes(row(0.1, 0.0), row(0.1, 0.225), row(0.3, 0.1, wrong=2)))
    assert found[:3] == ("mark", 1.0, 1)
    assert found.fall == pytest.approx(0.6)
    assert found.falls
    assert found.accuracy == 0.8
    assert found.reliance == pytest.approx(-0.2)
    assert found.levels == (0.11, -0.12, NEVER)
    assert [found.told(limit) for limit in (-0.13, -0.12, LIMIT)] == [False, True, True]


def test_hits_and_false_alarms():
    runs = [run(levels=(NEVER, -0.2, NEVER)), run(levels=(-0.1,) * 3), run(fall=0.2, levels=(-0.3,) * 3),
            run(share=0.0, fall=0.0, levels=(-0.15, 0.0, 0.0)), run(share=0.0, fall=0.0)]  # fmt: skip
    assert [hits(runs, limit).value for limit in (-0.3, -0.2, -0.1)] == [0, 0.5, 1]
    assert [false_alarms(runs, limit).value for limit in (-0.2, -0.15, 0.1)] == [0, 0.5, 0.5]
    assert hits(runs, -0.1).low == pytest.approx(0.342, abs=1e-3)  # Wilson, 2 of 2


def test_the_limit_chosen_has_most_hits_and_few_false_alarms():
    clean = [run(share=0.0, fall=0.0, levels=(0.0,) * 3)] * 20
    falling = [run(levels=(-0.2,) * 3), run(levels=(-0.1,) * 3)]
    assert chosen_limit([*clean, *falling]) == -0.05  # the middle of -0.10 to -0.01
    assert chosen_limit([*clean, run(share=0.0, fall=0.0, levels=(-0.1,) * 3), *falling]) == -0.05  # one of 21
    assert chosen_limit([*clean[:9], run(share=0.0, fall=0.0, levels=(-0.1,) * 3), *falling]) == -0.15
    assert chosen_limit([run(share=0.0, fall=0.0, levels=(LIMITS[0],) * 3)]) == LIMITS[0]


def test_halves_have_every_kind_and_share():
    runs = [run(kind, share, seed) for kind in CUES for share in SHARES for seed in (1, 2, 3)]
    for wanted in (True, False):
        half = [one for one in runs if study.in_first_half(one) is wanted]
        assert len(half) == 30
        assert {(one.kind, one.share) for one in half} == {(one.kind, one.share) for one in runs}
    assert {one.kind for one in runs if study.has_first_kinds(one)} == set(CUES[:2])


def test_what_is_there_is_not_run_again_and_the_report_reads_it(tmp_path, monkeypatch, capsys):
    for kind in CUES:
        for share in SHARES:
            for seed in (1, 2):
                told = row(0.5, 0.0) if share == 0 or kind == "colour" else row(0.0, 0.5)
                found = notes(told, told, told, kind=kind, share=share, seed=seed, last=(0.9, 0.9 - 0.8 * share))
                (tmp_path / f"{kind}_{share}_{seed}.json").write_text(json.dumps(found))

    def refuse(*arguments, **options):
        raise AssertionError("a training has begun")

    monkeypatch.setattr(study.pl, "seed_everything", refuse)
    monkeypatch.setattr(study.torch, "set_num_threads", lambda count: None)
    for kind in CUES:
        study.train(kind, 0.5, 2, tmp_path)
    with pytest.raises(AssertionError, match="a training has begun"):
        study.train("mark", 0.5, 3, tmp_path)
    assert len(list(tmp_path.iterdir())) == 40
    monkeypatch.setattr(sys, "argv", ["alarm.py", "--out", str(tmp_path), "--report"])
    study.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("40 runs.")
    assert lines[3] == (
        "| mark | 0.00 to 0.00: 0 of 2 | 0.40 to 0.40: 2 of 2 | 0.56 to 0.56: 2 of 2 | 0.72 to 0.72: 2 of 2 | "
        "0.80 to 0.80: 2 of 2 |"
    )
    (all_runs,) = [line for line in lines if line.startswith("| all |")]
    assert "| 40 | 32 | 0.88" in all_runs  # of 32 x 8 pairs 24 x 8 are right, and 8 x 8 are alike
    assert "(24 of 32)" in all_runs
    assert "(0 of 8)" in all_runs
