"""`benchmark pointing` in small, against the pointing game itself and hand-made rows."""

import csv

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sess_lightning.benchmark.pointing import accuracy, difference, is_hit, peak_distance, table
from sess_lightning.cli import main
from sess_lightning.metrics import pointing_hits
from tests.helpers.photo_folder import write_photos


@settings(deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0, 1, 1.5, 5, 15]))
def test_distances_hit_as_the_pointing_game_does(seed, tolerance):
    generator = torch.Generator().manual_seed(seed)
    saliency = torch.rand(12, 17, generator=generator)
    region = torch.rand(12, 17, generator=generator) > 0.97
    y, x = divmod(int(saliency.argmax()), 17)
    expected = bool(pointing_hits(torch.tensor([[x, y]]), region[None], tolerance))
    assert is_hit(peak_distance(saliency, region), tolerance) == expected


def question(photo, label, sess, distance, area=0.1, instances=1, distractor=False):
    return {
        "photo": photo, "model": "m", "method": "g", "sess": sess, "class": label, "distance": distance, "area": area,
        "instances": instances, "distractor": distractor,
    }  # fmt: skip


def test_accuracy_is_the_mean_over_classes():
    """Class 0: hits at 0 and 14.9, a miss at 15 (strictly nearer); class 1: a miss."""
    rows = [question(str(i), 0, True, d) for i, d in enumerate((0, 14.9, 15.0))] + [question("3", 1, True, 100.0)]
    assert accuracy(rows, 15).value == pytest.approx(100 * (2 / 3 + 0) / 2)
    assert accuracy(rows, 0).value == pytest.approx(100 * (1 / 3 + 0) / 2)


def test_difference_is_paired():
    base = [question("0", 0, False, 20.0), question("1", 0, False, 20.0)]
    sess = [question("0", 0, True, 0.0), question("1", 0, True, 0.0)]
    assert difference(base, sess, 15) == (100, 100, 100)


def test_columns_ask_what_they_say():
    """Difficult: below a quarter and a distractor; small: below 15 %; several: more than one object."""
    kinds = [(0.3, 1, True), (0.2, 1, True), (0.2, 1, False), (0.1, 3, False)]
    rows = [question(str(i), 0, s, 0.0, *kind) for s in (False, True) for i, kind in enumerate(kinds)]
    subsets = "all (4) | difficult (1) | small (1) | several (1) | distractor (2)"
    head = table(rows, 15).splitlines()[0]
    assert head == f"| method | model | SESS | {subsets} | all, SESS - base |"


def test_the_command(benchmark_words, tmp_path, capsys):
    """Photos 0 and 2 hold two classes; 1 only one; of photo 3, nobody can read a pixel."""
    photos, out = write_photos(tmp_path / "photos", -4), tmp_path / "out"
    with pytest.warns(UserWarning, match=r"Photo 3 is left out: .*3.png"):
        assert main(benchmark_words("pointing", photos, out, methods="gradcam", num_scales=2, ratio=0)) == 0
    with (out / "pointing.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["photo"], r["class"]) for r in rows if r["sess"] == "True"] == [
        ("0", "0"), ("0", "1"), ("1", "1"), ("2", "0"), ("2", "2")
    ]  # fmt: skip
    small, large = 20 * 20 / 8000, 50 * 40 / 8000
    assert [float(r["area"]) for r in rows if r["sess"] == "True"] == pytest.approx([small, large, small, large, small])
    assert [r["distractor"] for r in rows if r["sess"] == "True"] == ["True", "True", "False", "True", "True"]
    shown = capsys.readouterr().out
    assert "difficult (2) | small (3) | several (0) | distractor (4)" in shown  # 2000 of 8000 is no less than a quarter
    main(benchmark_words("pointing", photos, out, methods="gradcam", num_scales=2, ratio=0, tolerance=0))
    assert "tolerance 0 pixels" in capsys.readouterr().out


def test_controls_are_counted_by_hand(benchmark_words, tmp_path, capsys):
    """A square of 20 pixels at (5, 5) and a box of 50 x 40 at (40, 30), in which the centre (50, 40) of 100 x 80 lies.

    Class 0 has the square of photo 0, class 1 the box of photo 0 and the square of photo 1.
    """
    photos, out = write_photos(tmp_path / "photos", 2), tmp_path / "out"

    def run(tolerance):
        options = {"methods": "gradcam", "num_scales": 1, "ratio": 0, "tolerance": tolerance}
        assert main(benchmark_words("pointing", photos, out, **options)) == 0
        lines = [
            line for line in (out / "pointing.md").read_text().splitlines() if "| the centre" in line or "any" in line
        ]
        return [line.split(" | ")[3].partition(" ")[0] for line in lines]

    assert run(4) == ["25.0", f"{100 * (square(4) + (box(4) + square(4)) / 2) / 2:.1f}"]
    assert run(0) == ["25.0", f"{100 * (400 / 8000 + (2000 / 8000 + 400 / 8000) / 2) / 2:.1f}"]  # known at no cost
    # From (50, 40) to (24, 24): 30.5 pixels; what any pixel hits with another tolerance was not measured.
    assert run(31) == ["100.0", "-"]
    with (out / "pointing.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["centre"]) for row in rows[::2]] == pytest.approx(
        [(26**2 + 16**2) ** 0.5, 0, (26**2 + 16**2) ** 0.5]
    )
    assert len({row["any_pixel"] for row in rows if row["photo"] == "0" and row["class"] == "0"}) == 1


def square(tolerance):
    """Share of 100 x 80 pixels nearer than 4 to it: strips of 3 pixels, and corners of 8, as (3, 3) is 4.2 away."""
    assert tolerance == 4
    return (400 + 4 * 20 * 3 + 4 * 8) / 8000


def box(tolerance):
    assert tolerance == 4
    return (2000 + 2 * (50 + 40) * 3 + 4 * 8) / 8000


def test_no_controls(benchmark_words, tmp_path, capsys):
    photos = write_photos(tmp_path / "photos", 1)
    options = {"methods": "gradcam", "num_scales": 1}
    assert main(benchmark_words("pointing", photos, tmp_path / "out", **options, controls="false")) == 0
    assert "any pixel" not in capsys.readouterr().out
    assert main(benchmark_words("pointing", photos, tmp_path / "out", **options)) == 2
    assert "`controls` was None and is True" in capsys.readouterr().err


def test_an_empty_difficult_column_is_said(benchmark_words, tmp_path, capsys):
    photos = write_photos(tmp_path / "photos", 2)
    text = (photos / "annotations.json").read_text().replace('"category_id": 1', '"category_id": 0')
    (photos / "annotations.json").write_text(text)
    main(benchmark_words("pointing", photos, tmp_path / "out", methods="gradcam", num_scales=1))
    assert "`difficult` is empty" in capsys.readouterr().out
