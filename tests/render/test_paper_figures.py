"""The paper's figures from a `SESSResult`."""

import pytest
import torch

from sess_lightning import SESS
from sess_lightning.render import patches_figure, prefilter_figure, smoothing_figure
from sess_lightning.render.paper_figures import _kept_region
from sess_lightning.render.result_fields import window_boxes
from tests.helpers.nets import small_cnn
from tests.helpers.pictures import is_colour, picture

IMAGE = picture(60, 80)


def result_of(**options):
    sess = SESS(num_scales=3, window_size=32, **options)
    return sess(small_cnn(), IMAGE[None] / 255, torch.tensor([1]), keep_patches=True)


def test_windows_in_the_image():
    result = result_of()
    boxes = window_boxes(result.windows[0], IMAGE)
    for box, (x1, y1, x2, y2, h, w) in zip(boxes.tolist(), result.windows[0].tolist(), strict=True):
        assert box == pytest.approx([x1 * 80 / w, y1 * 60 / h, x2 * 80 / w, y2 * 60 / h])


def test_red_is_where_no_kept_window_lies():
    result = result_of(prefilter_ratio=0.9)
    black = torch.zeros_like(IMAGE)
    red = (_kept_region(black, result, 0) != 0).any(0)
    for y, x in [(y, x) for y in range(60) for x in range(80)]:
        overlaps = any(
            x1 * 80 / w < x + 1 and x < x2 * 80 / w and y1 * 60 / h < y + 1 and y < y2 * 60 / h
            for x1, y1, x2, y2, h, w in result.windows[0][result.kept[0]].tolist()
        )
        assert bool(red[y, x]) != overlaps
    assert red.any()
    assert torch.equal(_kept_region(IMAGE, result_of(), 0), IMAGE)  # every pixel lies in some window


def test_prefilter_figure_has_a_column_for_each_result():
    results = [result_of(prefilter_ratio=r) for r in (0, 0.5, 0.9)]
    figure = prefilter_figure(IMAGE, results, panel_height=64)
    assert figure.dtype == torch.uint8
    alone = prefilter_figure(IMAGE, results[:1], panel_height=64)
    assert figure.shape[1] == alone.shape[1]
    assert figure.shape[2] > 2.9 * alone.shape[2] - 30
    assert torch.equal(figure[:, 30:, : alone.shape[2] - 8], alone[:, 30:, :-8])  # below the headings


def test_smoothing_figure_shows_both_maps():
    result = result_of()
    figure = smoothing_figure(IMAGE, result, panel_height=64)
    one = figure.shape[2] // 3
    assert (figure[:, 20:, one + 8 : 2 * one] != figure[:, 20:, 2 * one + 3 : 3 * one - 5]).any()
    torch.testing.assert_close(result.unsmoothed[0], SESS(num_scales=3, window_size=32, smooth=False)(
        small_cnn(), IMAGE[None] / 255, torch.tensor([1])).maps[0])  # fmt: skip


@pytest.mark.parametrize("ratio", [0.0, 0.6])
def test_patches_figure_shows_every_kept_patch(ratio):
    result = result_of(prefilter_ratio=ratio)
    figure = patches_figure(IMAGE, result, columns=4, panel_height=64)
    scales = result.windows[0][result.kept[0], 4]
    rows = sum(-(-int((scales == s).sum()) // 4) for s in scales.unique())
    single = patches_figure(IMAGE, result_of(prefilter_ratio=0.95), columns=4, panel_height=64)
    assert len(result_of(prefilter_ratio=0.95).kept[0]) == 1
    line = 16  # of the title, on the first row only
    assert figure.shape[1] == rows * (single.shape[1] - line) + line
    assert figure.shape[2] == single.shape[2]
    # a white box in every panel
    assert is_colour(figure, (255, 255, 255)).sum() > len(result.kept[0]) * 60


@pytest.mark.parametrize("draw", [smoothing_figure, patches_figure])
def test_a_result_without_patches_is_named(draw):
    result = SESS(num_scales=1, window_size=32)(small_cnn(), IMAGE[None] / 255, torch.tensor([1]))
    with pytest.raises(ValueError, match="keep_patches=True"):
        draw(IMAGE, result)


def test_another_image_is_named():
    with pytest.raises(ValueError, match="image that was explained, of 60 x 80 pixels, but got 60 x 60"):
        smoothing_figure(IMAGE[:, :, :60], result_of())
    with pytest.raises(ValueError, match="at least one result"):
        prefilter_figure(IMAGE, [])
