"""The figure of the process: everything stands where the result says, read from matplotlib's artists."""

import runpy
from typing import NamedTuple

import pytest
import torch
from matplotlib.colors import same_color
from matplotlib.patches import Circle, PathPatch, Polygon, Rectangle
from matplotlib.path import Path
from PIL import Image

from sess_lightning import SESS
from sess_lightning.render import overlay, process_figure
from sess_lightning.render.page import MUTED, PAGE
from sess_lightning.render.panel import Fit, resized
from sess_lightning.render.plot_page import shade
from tests.helpers.figures import assert_nothing_overlaps, pictures_in, record_figures, text_boxes, words
from tests.helpers.nets import small_cnn
from tests.helpers.pictures import picture

IMAGE = picture(64, 96)


def result_of(image=IMAGE, **options):
    sess = SESS(**{"num_scales": 3, "window_size": 64, **options})
    return sess(small_cnn(), image[None] / 255, torch.tensor([1]), keep_patches=True)


class Curve(NamedTuple):
    """A connector: its ends in pixels from the top left, and its width."""

    start: tuple[float, float]
    end: tuple[float, float]
    width: float
    dot: bool
    arrow: bool


class Drawn(NamedTuple):
    """A figure, its page, and where its pictures are: the scaled images, and of every patch its three pictures."""

    figure: object
    page: torch.Tensor
    image: tuple[float, ...]
    fused: tuple[float, ...]
    scaled: list[tuple[float, ...]]
    strips: list[list[tuple[float, ...]]]  # patch, map, weighted map, from top to bottom
    pictures: dict[tuple[float, ...], torch.Tensor]


@pytest.fixture
def drawn(monkeypatch):
    figures = record_figures(monkeypatch)

    def draw(image, result, **options):
        page = process_figure(image, result, **options)
        (figure,) = figures[-1:]
        assert page.shape == (3, figure.bbox.height, figure.bbox.width)
        assert page.dtype == torch.uint8
        pictures = {box: shown for shown, box in pictures_in(figure)}
        legend = max(pictures, key=lambda box: box[1])
        columns = sorted({box[0] for box in pictures if box != legend})
        assert len(columns) == 6
        by_column = [
            sorted((box for box in pictures if box[0] == x and box != legend), key=lambda box: box[1]) for x in columns
        ]
        ((first,), scaled, patches, maps, weighted, (last,)) = by_column
        strips = [list(strip) for strip in zip(patches, maps, weighted, strict=True)]
        return Drawn(figure, page, first, last, scaled, strips, pictures)

    return draw


def patches_of(figure, kind, colour=None):
    found = [one for one in figure.patches + figure.artists if type(one) is kind]
    return [one for one in found if colour is None or same_color(one.get_edgecolor()[:3], shade(colour))]


def curves_of(figure, colour=MUTED):
    """The connectors in one of their two colours: the lines, or the halos below them."""
    dots = [one.center for one in patches_of(figure, Circle, colour)]
    tips = [tuple(one.get_xy()[1]) for one in patches_of(figure, Polygon, colour)]
    curves = []
    for one in patches_of(figure, PathPatch, colour):
        start, out, into, end = map(tuple, one.get_path().vertices)
        assert list(one.get_path().codes) == [Path.MOVETO, *[Path.CURVE4] * 3]
        assert out[1] == start[1]  # leaves horizontally
        assert into[1] == end[1]  # arrives horizontally
        tip = [tip for tip in tips if tip[1] == end[1] and 0 < tip[0] - end[0] < 10]
        curves.append(Curve(start, tip[0] if tip else end, one.get_linewidth(), start in dots, bool(tip)))
    return curves


def at(page, box):
    x1, y1, x2, y2 = map(int, box)
    return page[:, y1:y2, x1:x2]


def left(box):
    return box[0], (box[1] + box[3]) / 2


def right(box):
    return box[2], (box[1] + box[3]) / 2


def on(box, window):
    """A window (6,) on the picture that lies in `box` and shows its whole scaled image: x1, y1, x2, y2 on the page."""
    x1, y1, x2, y2, h, w = window
    across, down = (box[2] - box[0]) / w, (box[3] - box[1]) / h
    return box[0] + x1 * across, box[1] + y1 * down, box[0] + x2 * across, box[1] + y2 * down


def outlines(figure, strong):
    """Outlined boxes: those in white between dark lines, or the pale ones."""
    white = patches_of(figure, Rectangle, (255, 255, 255))
    chosen = [one for one in white if (one.get_alpha() == 1) == strong]
    return sorted(
        (x - 0.5, y - 0.5, x + w + 0.5, y + h + 0.5)
        for (x, y), w, h in ((one.get_xy(), one.get_width(), one.get_height()) for one in chosen)
    )


def test_patches_maps_and_weighted_maps_are_those_of_the_result(drawn):
    """One scale, the image's own, and a page at its size: nothing is resized, so every pixel is known."""
    result = result_of(num_scales=1)
    assert result.windows[0].tolist() == [[0, 0, 64, 64, 64, 96], [32, 0, 96, 64, 64, 96]]
    shown = drawn(IMAGE, result, panel_height=64)
    weights = result.scores[0] / result.scores[0].max()
    assert len(shown.strips) == 2
    for index, (patch, saliency, weighted) in enumerate(shown.strips):
        x = 32 * index
        own = result.patch_maps[0][index]
        assert torch.equal(shown.pictures[patch], IMAGE[:, :, x : x + 64])
        assert torch.equal(shown.pictures[saliency], overlay(IMAGE[:, :, x : x + 64], own[:, x : x + 64]))
        assert torch.equal(shown.pictures[weighted], overlay(IMAGE, weights[index] * own))
        assert torch.equal(at(shown.page, patch)[:, 8:24, 8:], IMAGE[:, :, x : x + 64][:, 8:24, 8:])  # drawn as it is
        assert on(weighted, result.windows[0][index].tolist()) in outlines(shown.figure, strong=True)
    for place, whole in ((shown.image, IMAGE), (shown.fused, overlay(IMAGE, result.maps[0]))):  # larger on the page
        height, width = shown.pictures[place].shape[1:]
        assert torch.equal(shown.pictures[place], resized(whole, Fit(height, width, 0, 0)))


@pytest.mark.parametrize("ratio", [0.0, 0.7])
def test_kept_windows_are_outlined_where_the_result_says(drawn, ratio):
    result = result_of(num_scales=4, prefilter_ratio=ratio)
    shown = drawn(IMAGE, result, num_scales=4)
    sizes = result.windows[0][:, 4:].unique(dim=0).tolist()
    kept = result.windows[0][result.kept[0]].tolist()
    assert len(shown.scaled) == len(sizes) == 4
    expected = []
    for (h, w), box in zip(sizes, shown.scaled, strict=True):
        expected += [on(box, window) for window in kept if window[4:] == [h, w]]
        count = sum(size == [h, w] for size in result.windows[0][:, 4:].tolist())
        left_over = sum(window[4:] == [h, w] for window in kept)
        noun = "windows" if count > 1 else "window"
        below = [text for text, place in text_boxes(shown.figure) if place[0] < box[2] and 0 <= place[1] - box[3] < 70]
        assert f"{w} x {h}" in below
        assert (f"{count} {noun}" if left_over == count else f"{count} {noun}, {left_over} kept") in below
    pale = outlines(shown.figure, strong=False)
    assert len(pale) == len(kept)
    for found, wanted in zip(pale, sorted(expected), strict=True):
        assert found == pytest.approx(wanted)
    strong = outlines(shown.figure, strong=True)  # each patch shown: once on its scaled image, once on the weighted map
    assert len(strong) == 2 * len(shown.strips)
    assert sum(any(one == pytest.approx(box) for box in expected) for one in strong) == len(shown.strips)
    assert ratio == 0 or len(kept) < len(result.windows[0])


def test_outlines_are_seen_on_every_ground_and_stay_on_the_picture(drawn):
    for value, seen in ((0, lambda pixels: pixels > 100), (255, lambda pixels: pixels < 100)):
        image = picture(64, 64, value)
        shown = drawn(image, result_of(image, num_scales=1), panel_height=64)
        (window,) = outlines(shown.figure, strong=True)[:1]
        x1, y1, x2, _ = map(round, window)
        top = shown.page[0, y1 - 2 : y1 + 4, x1 + 8 : x2 - 8]
        assert seen(top.float()).any(0).all()
        x1, y1, x2, y2 = map(int, shown.scaled[0])
        assert (shown.page[:, y1 : y2 - 20, x1 - 4 : x1 - 2].amin((1, 2)) <= torch.tensor(PAGE)).all()


def test_scaled_images_keep_their_proportions(drawn):
    result = result_of(num_scales=6)
    shown = drawn(IMAGE, result)
    sizes = result.windows[0][:, 4:].unique(dim=0).tolist()
    sizes = [size for size in sizes if f"{size[1]} x {size[0]}" in words(shown.figure)]
    assert len(sizes) == len(shown.scaled) == 3
    heights = [box[3] - box[1] for box in shown.scaled]
    widths = [box[2] - box[0] for box in shown.scaled]
    factors = [height / h for height, (h, _) in zip(heights, sizes, strict=True)]
    assert max(factors) - min(factors) < 1 / 60
    for height, width, (h, w) in zip(heights, widths, sizes, strict=True):
        assert width / height == pytest.approx(w / h, rel=0.03)


@pytest.mark.parametrize(
    ("height", "width", "options"),
    [
        (64, 96, {}),
        (96, 64, {"num_patches": 1}),
        (64, 200, {"num_patches": 3}),
        (70, 70, {"panel_height": 112}),
        (200, 64, {"panel_height": 32, "num_scales": 1, "num_patches": 1}),
    ],
)
def test_nothing_overlaps_nothing_is_cut_and_nothing_leaves_the_page(drawn, height, width, options):
    image = picture(height, width)
    shown = drawn(image, result_of(image), **{"panel_height": 80, **options})
    assert_nothing_overlaps(shown.figure)
    assert not any("…" in word for word in words(shown.figure))


def test_scores_weights_and_counts_are_written(drawn):
    result = result_of()
    shown = drawn(IMAGE, result, title="a heron, цапля")
    scores = result.scores[0]
    weights = scores / scores.max()
    seen = words(shown.figure)
    assert "a heron, цапля" in seen
    assert len(shown.strips) == 6
    assert sum(word.startswith("p=") for word in seen) == 6
    beside = text_boxes(shown.figure)
    pairs = {
        (f"p={score:.2f}", f"x {weight:.2f}") for score, weight in zip(scores.tolist(), weights.tolist(), strict=True)
    }
    for _, saliency, weighted in shown.strips:  # score above the arrow, weight below it
        between = sorted(
            (box[1], text) for text, box in beside
            if saliency[2] <= box[0] and box[2] <= weighted[0] and saliency[1] <= box[1] and box[3] <= saliency[3]
        )  # fmt: skip
        assert tuple(text for _, text in between) in pairs
    assert "x 1.00" in seen
    assert f"and {len(scores) - 6} more" in seen
    assert f"of {len(scores)} maps" in seen
    assert {"image", "96 x 64", "3 scales", "patches", "64 x 64", "maps", "weighted", "fused"} <= set(seen)
    assert "class 1" in words(drawn(IMAGE, result).figure)


def test_curves_start_in_their_windows_and_are_as_thick_as_the_weights(drawn):
    result = result_of()
    shown = drawn(IMAGE, result)
    curves = curves_of(shown.figure)
    dots = [curve for curve in curves if curve.dot]
    into = [curve for curve in curves if curve.end[0] == shown.fused[0]]
    arrows = [curve for curve in curves if curve.arrow]
    assert len(dots) == len(into) == 6
    assert len(arrows) == 3 + 2 * 6
    assert len(curves) == len(dots) + len(into) + len(arrows)

    for box in shown.scaled:
        assert any(curve.start == right(shown.image) and curve.end == left(box) for curve in arrows)
    windows, scores = result.windows[0].tolist(), result.scores[0]
    weights = (scores / scores.max()).tolist()
    slope, ends = (0.11 - 0.015) * 112, []
    for patch, saliency, weighted in shown.strips:
        assert any(curve.start == right(patch) and curve.end == left(saliency) for curve in arrows)
        assert any(curve.start == right(saliency) and curve.end == left(weighted) for curve in arrows)
        (dot,) = [curve for curve in dots if curve.end == left(patch)]
        (last,) = [curve for curve in into if curve.start == right(weighted)]
        middles = {  # of every window, on the scaled images shown
            index: ((x1 + x2) / 2, (y1 + y2) / 2)
            for box in shown.scaled
            for index, window in enumerate(windows)
            for x1, y1, x2, y2 in [on(box, window)]
            if (box[3] - box[1]) / (box[2] - box[0]) == pytest.approx(window[4] / window[5], rel=0.03)
            and dot.start == pytest.approx(((x1 + x2) / 2, (y1 + y2) / 2))
        }
        assert middles
        assert any(last.width == pytest.approx(0.015 * 112 + slope * weights[index]) for index in middles)
        ends.append(last.end[1])
    assert ends == sorted(ends)
    assert shown.fused[1] < ends[0] < ends[-1] < shown.fused[3]


def test_every_line_has_a_halo_in_the_colour_of_the_page_below_all_lines(drawn):
    shown = drawn(IMAGE, result_of())
    lines, halos = (patches_of(shown.figure, PathPatch, colour) for colour in (MUTED, PAGE))
    assert len(lines) == len(halos) > 0
    for line, halo in zip(lines, halos, strict=True):
        assert (line.get_path().vertices == halo.get_path().vertices).all()
        assert halo.get_linewidth() == pytest.approx(line.get_linewidth() + 2.4)
    above = [one.get_zorder() for kind in (PathPatch, Circle, Polygon) for one in patches_of(shown.figure, kind, MUTED)]
    below = [one.get_zorder() for kind in (PathPatch, Circle, Polygon) for one in patches_of(shown.figure, kind, PAGE)]
    assert max(below) < min(above)
    assert max(one.get_zorder() for one in shown.figure.images + patches_of(shown.figure, Rectangle)) < min(below)


def test_a_line_over_a_light_picture_is_seen(drawn):
    white = picture(64, 64, 255)
    shown = drawn(white, result_of(white, num_scales=1), panel_height=64)
    (dot,) = [curve for curve in curves_of(shown.figure) if curve.dot]
    x, y = round(dot.start[0] + 10), round(dot.start[1])
    column = shown.page[0, y - 5 : y + 5, x].tolist()
    assert any(abs(value - MUTED[0]) < 40 for value in column)
    assert min(column) < 125  # dark beside it


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
    arguments = [photo, "out.png", "--model=small_cnn", f"--weights={small_weights}", "--num-scales=2", "--height=32"]
    example["main"](arguments)
    with Image.open("out.png") as figure:
        assert figure.width > 300
    assert "Wrote out.png" in capsys.readouterr().out
