"""Films: which validations are kept, and what they look like."""

from itertools import pairwise

import pytest
import torch

from sess_lightning.callback.evolution import COLUMNS, MOST_FRAMES, Evolution
from sess_lightning.render import MapRow
from sess_lightning.render.page import BoardLayout


def row(value=0):
    image = torch.full((3, 40, 60), value, dtype=torch.uint8)
    saliency = torch.zeros(40, 60)
    saliency[20, 30] = 1
    return MapRow(image, None, saliency, None, "disc", "disc", 0.5, None, None)


def film(validations, places=((0, 0, 0),), drawn=None):
    """Of so many validations, the first `drawn` of them with maps: drawing takes most of the time."""
    made = Evolution()
    for number in range(validations):
        found = places if drawn is None or number < drawn else ()
        made.add(number, 10 * number, found, [row() for _ in found])
    return made


@pytest.mark.parametrize("validations", [1, 2, MOST_FRAMES, MOST_FRAMES + 1, 200, 1000])
def test_the_first_and_the_last_are_kept_and_those_between_evenly(validations):
    epochs = [frame.epoch for frame in film(validations, drawn=1).frames]
    assert epochs[0] == 0
    assert epochs[-1] == validations - 1
    assert len(epochs) <= MOST_FRAMES + 1
    distances = {b - a for a, b in pairwise(epochs[:-1])}
    assert len(distances) <= 1
    if validations > MOST_FRAMES:
        assert len(epochs) > MOST_FRAMES // 2


def test_no_more_columns_than_can_be_read():
    made = film(30)
    width = BoardLayout(112, 168, COLUMNS + 1).column(COLUMNS + 1)
    assert width <= made.strip().shape[2] <= width + 200  # the names at the left
    sheets = made.sheets()
    assert len(sheets) == 30
    assert len({sheet.shape for sheet in sheets}) == 1


def test_a_sample_without_a_map_in_one_validation_leaves_its_place_empty():
    made = Evolution()
    places = [(0, 0, 0), (0, 0, 3)]
    made.add(0, 5, places[:1], [row(200)])
    made.add(1, 10, places, [row(200), row(100)])
    strip = made.strip()
    assert strip.shape[1] > 2 * 112
    assert made.sheets()[0].shape == made.sheets()[1].shape
    assert not made._panel(made.frames[0], places[1]).any()


def test_frames_of_one_epoch_are_named_by_step():
    made = Evolution()
    for step in (5, 10):
        made.add(0, step, [(0, 0, 0)], [row()])
    by_step = made.strip()
    assert not torch.equal(by_step, film(2).strip())
