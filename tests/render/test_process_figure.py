"""The figure of the process: everything stands where the result says."""

import runpy
from importlib import import_module

import pytest
import torch
from PIL import Image

from sess_lightning import SESS
from sess_lightning.render import overlay, page, process_figure
from sess_lightning.render.connectors import Connector, with_connectors
from sess_lightning.render.marks import draw_boxes
from sess_lightning.render.process_layout import sheet_for
from tests.helpers.nets import small_cnn
from tests.helpers.pictures import is_colour, picture

MODULE = import_module("sess_lightning.render.process_figure")  # the function hides the module of its name

IMAGE = picture(64, 96)
WHITE = (255, 255, 255)


def result_of(image=IMAGE, **options):
    sess = SESS(**{"num_scales": 3, "window_size": 64, **options})
    return sess(small_cnn(), image[None] / 255, torch.tensor([1]), keep_patches=True)


@pytest.fixture
def drawn(monkeypatch):
    """Draws a figure without its curves; gives the page, its measures, its words and its curves."""

    def draw(image, result, **options):
        seen = {"words": []}
        write = page.Canvas.write

        def spied_sheet(**measures):
            seen["sheet"] = sheet_for(**measures)
            return seen["sheet"]

        def spied_write(canvas, x, middle, text, colour, width):
            seen["words"].append(text)
            assert canvas._font.getlength(text) <= width, f"{text!r} is cut"
            write(canvas, x, middle, text, colour, width)

        def no_curves(page, curves, colour):
            seen["curves"] = list(curves)
            return page

        monkeypatch.setattr(MODULE, "sheet_for", spied_sheet)
        monkeypatch.setattr(page.Canvas, "write", spied_write)
        monkeypatch.setattr(MODULE, "with_connectors", no_curves)
        return process_figure(image, result, **options), seen["sheet"], seen["words"], seen["curves"]

    return draw


def at(page, place):
    return page[:, place.y : place.y + place.height, place.x : place.x + place.width]


def test_patches_maps_and_places_pixel_by_pixel(drawn):
    """One scale, the image's own, and a page at its size: nothing is resized, so every pixel is known."""
    result = result_of(num_scales=1)
    assert result.windows[0].tolist() == [[0, 0, 64, 64, 64, 96], [32, 0, 96, 64, 64, 96]]
    page, sheet, _, _ = drawn(IMAGE, result, panel_height=64)
    (group,) = sheet.groups
    weights = result.scores[0] / result.scores[0].max()
    for index, strip in enumerate(group.strips):
        x = 32 * index
        own = result.patch_maps[0][index]
        assert torch.equal(at(page, strip.patch), IMAGE[:, :, x : x + 64])
        assert torch.equal(at(page, strip.saliency), overlay(IMAGE[:, :, x : x + 64], own[:, x : x + 64]))
        box = torch.tensor([[x, 0, x + 64, 64]])
        assert torch.equal(at(page, strip.placed), draw_boxes(overlay(IMAGE, weights[index] * own), box))


@pytest.mark.parametrize("ratio", [0.0, 0.7])
def test_kept_windows_are_outlined_where_the_result_says(drawn, ratio):
    """On black: outlines of all kept windows, thick where the patch is shown, and nothing else."""
    black = torch.zeros(3, 64, 96, dtype=torch.uint8)
    result = result_of(black, num_scales=4, prefilter_ratio=ratio)
    page, sheet, words, _ = drawn(black, result, num_scales=4)
    sizes = result.windows[0][:, 4:].unique(dim=0).tolist()
    kept = result.windows[0][result.kept[0]].tolist()
    assert len(sheet.groups) == len(sizes) == 4
    for (h, w), group in zip(sizes, sheet.groups, strict=True):
        lines = at(page, group.scaled).amin(0) > 100  # pale and white; the dark lines beside the white ones are not
        expected = torch.zeros_like(lines)
        for x1, y1, x2, y2, *size in kept:
            if size == [h, w]:
                left, right = (x * group.scaled.width / w for x in (x1, x2))
                top, bottom = (y * group.scaled.height / h for y in (y1, y2))
                for y in (top, bottom - 1):
                    expected[max(0, round(y) - 1) : round(y) + 2, max(0, round(left) - 1) : round(right) + 1] = True
                for x in (left, right - 1):
                    expected[max(0, round(top) - 1) : round(bottom) + 1, max(0, round(x) - 1) : round(x) + 2] = True
                sides = [
                    lines[round(top) : round(bottom), max(0, round(x) - 1) : round(x) + 2] for x in (left, right - 1)
                ]
                assert all(side.any(1).float().mean() > 0.8 for side in sides)  # other windows' dark lines cross them
        assert not (lines & ~expected).any()
        count = sum(size == [h, w] for size in result.windows[0][:, 4:].tolist())
        left_over = sum(window[4:] == [h, w] for window in kept)
        assert f"{w} x {h}" in words
        noun = "windows" if count > 1 else "window"
        assert (f"{count} {noun}" if left_over == count else f"{count} {noun}, {left_over} kept") in words
    assert ratio == 0 or len(kept) < len(result.windows[0])


def test_scaled_images_keep_their_proportions(drawn):
    result = result_of(num_scales=6)
    _, sheet, words, _ = drawn(IMAGE, result)
    sizes = result.windows[0][:, 4:].unique(dim=0).tolist()
    shown = [size for size in sizes if f"{size[1]} x {size[0]}" in words[:-20] + words]
    assert len(shown) >= 3
    factors = [group.scaled.height / h for group, (h, _) in zip(sheet.groups, shown, strict=True)]
    assert max(factors) - min(factors) < 1 / 60
    for group, (h, w) in zip(sheet.groups, shown, strict=True):
        assert group.scaled.width / group.scaled.height == pytest.approx(w / h, rel=0.03)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (96, 64), (64, 200), (70, 70)])
def test_nothing_overlaps_and_nothing_leaves_the_page(drawn, height, width):
    image = picture(height, width)
    page, sheet, _, _ = drawn(image, result_of(image), panel_height=80)
    places = [sheet.image, sheet.fused]
    for group in sheet.groups:
        places += [group.scaled, *(place for strip in group.strips for place in strip)]
    taken = torch.zeros(page.shape[1:], dtype=torch.int)
    for place in places:
        assert place.x >= 0
        assert place.y >= 0
        taken[place.y : place.y + place.height, place.x : place.x + place.width] += 1
    assert int(taken.max()) == 1
    assert int(taken.sum()) == sum(place.height * place.width for place in places)


def test_scores_weights_and_counts_are_written(drawn):
    result = result_of()
    _, sheet, words, _ = drawn(IMAGE, result, title="a heron")
    scores = result.scores[0]
    best = scores.argmax()
    assert f"p={float(scores[best]):.2f}" in words
    assert "x 1.00" in words
    assert "a heron" in words
    shown = sum(len(group.strips) for group in sheet.groups)
    assert sum(word.startswith("p=") for word in words) == shown == 6
    assert f"and {len(scores) - shown} more" in words
    assert f"of {len(scores)} maps" in words
    assert "class 1" in drawn(IMAGE, result)[2]


def test_curves_start_in_their_windows_and_are_as_thick_as_the_weights(drawn):
    result = result_of()
    _, sheet, words, curves = drawn(IMAGE, result)
    dots = [curve for curve in curves if curve.dot]
    into = [curve for curve in curves if curve.end[0] == sheet.fused.x]
    assert len(dots) == len(into) == 6
    strips = [(group.scaled, strip) for group in sheet.groups for strip in group.strips]
    middles = [((x1 + x2) / 2 / w, (y1 + y2) / 2 / h) for x1, y1, x2, y2, h, w in result.windows[0].tolist()]
    for dot, (scaled, strip) in zip(dots, strips, strict=True):
        share = (dot.start[0] - scaled.x) / scaled.width, (dot.start[1] - scaled.y) / scaled.height
        assert any(share == pytest.approx(middle) for middle in middles)
        assert dot.end == strip.patch.left
    weights = [float(word[2:]) for word in words if word.startswith("x ")]
    widths = [curve.width for curve in into]
    slope = (0.11 - 0.015) * 112
    for weight, width in zip(weights, widths, strict=True):
        assert width == pytest.approx(0.015 * 112 + slope * weight, abs=0.006 * slope)
    ends = [curve.end[1] for curve in into]
    assert ends == sorted(ends)
    assert sheet.fused.y < ends[0] < ends[-1] < sheet.fused.y + sheet.fused.height


def test_a_curve_covers_its_line_and_a_halo_and_nothing_else():
    page = torch.full((3, 20, 60), 250, dtype=torch.uint8)
    found = with_connectors(page, [Connector((10, 10), (50, 10), 4)], (200, 100, 50))
    assert is_colour(found, (200, 100, 50))[9:11, 12:48].all()
    assert (found[:, [7, 12], 12:48] < 125).all()  # dark on both sides, seen on a light picture
    beside = torch.ones(20, 60, dtype=torch.bool)
    beside[6:14, 9:52] = False
    assert (found[:, beside] == 250).all()
    assert torch.equal(with_connectors(page, [], (200, 100, 50)), page)


def test_a_curve_leaves_and_arrives_horizontally():
    found = with_connectors(torch.zeros(3, 60, 100, dtype=torch.uint8), [Connector((5, 10), (95, 50), 3)], WHITE)
    rows = [found[0, :, x].float().argmax().item() for x in (8, 50, 92)]
    assert rows == pytest.approx([10, 30, 50], abs=2)


def test_bad_input_is_named():
    result = result_of(num_scales=1)
    with pytest.raises(ValueError, match="image that was explained, of 64 x 96 pixels"):
        process_figure(IMAGE[:, :, :60], result)
    for name in ("num_scales", "num_patches"):
        with pytest.raises(ValueError, match=f"`{name}` to be a positive int"):
            process_figure(IMAGE, result, **{name: 0})
    with pytest.raises(ValueError, match="panel_height"):
        process_figure(IMAGE, result, panel_height=31)
    bare = SESS(num_scales=1, window_size=64)(small_cnn(), IMAGE[None] / 255, torch.tensor([1]))
    with pytest.raises(ValueError, match="keep_patches=True"):
        process_figure(IMAGE, bare)


@pytest.mark.parametrize("photo", ["scene:1", "photo.png"])
def test_the_example_draws_scenes_and_photos(root, tmp_path, monkeypatch, small_weights, photo, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(IMAGE.permute(1, 2, 0).numpy()).save("photo.png")
    example = runpy.run_path(str(root / "examples" / "process_figure.py"))
    words = [photo, "out.png", "--model=small_cnn", f"--weights={small_weights}", "--num-scales=2", "--height=32"]
    example["main"](words)
    with Image.open("out.png") as figure:
        assert figure.width > 300
    assert "Wrote out.png" in capsys.readouterr().out
