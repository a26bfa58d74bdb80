"""Scenes with a planted shortcut: what is planted, where, and how often it tells the truth."""

import numpy as np
import pytest

from sess_lightning.data import ShapeScenes
from sess_lightning.data.shapes.cues import CUES, Cue
from sess_lightning.data.shapes.scenes import draw_scene

CLASSES = 6


def scenes(**options):
    return ShapeScenes(train_size=60, val_size=60, scene_size=96, **options)


def drawn(cue, seed=0):
    return draw_scene(np.random.default_rng(seed), 2, (64, 64), (10, 40), cue=cue)


@pytest.mark.parametrize("kind", ["mark", "background", "texture"])
def test_a_variant_changes_the_background_alone(kind):
    one, other = drawn(Cue(kind, 0)), drawn(Cue(kind, 5))
    assert (one.masks == other.masks).all() or kind != "mark"
    inside = one.masks.any(0) & other.masks.any(0)
    if kind == "mark":  # the same ground, so the same colours of the objects
        assert (one.image[inside] == other.image[inside]).all()
        changed = (one.image != other.image).any(-1)
        assert changed[:12, :12].any()
        assert not changed[12:].any()
        assert not changed[:, 12:].any()
    else:
        assert (one.image != other.image).any(-1)[~inside].mean() > 0.9


def test_the_colour_is_that_of_the_objects():
    scene = drawn(Cue("colour", 2))
    inside = scene.image[scene.masks.any(0)].astype(float)
    assert np.abs(inside.mean(0) - np.array([0.1, 0.2, 1]) * 255).max() < 30


def test_a_mark_is_left_free_by_the_objects():
    for seed in range(20):
        boxes = drawn(Cue("mark", 1), seed).boxes
        assert ((boxes[:, 0] >= 10) | (boxes[:, 1] >= 10)).all()


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_how_often_the_cue_tells_the_class(strength):
    data = ShapeScenes(train_size=3000, val_size=6, shortcut="mark", shortcut_strength=strength)
    right = [data.train_scenes._cue(i).variant == i % CLASSES for i in range(3000)]
    expected = strength + (1 - strength) / CLASSES
    assert np.mean(right) == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 3000))


def test_two_validation_loaders_of_which_the_second_has_no_shortcut():
    data = scenes(shortcut="mark")
    first, second = data.val_dataloader()
    assert first.dataset is data.val_scenes
    assert [data.val_scenes._cue(i).variant for i in range(60)] == [i % CLASSES for i in range(60)]
    told = [data.val_scenes_without._cue(i).variant == i % CLASSES for i in range(60)]
    assert 0 < np.mean(told) < 0.5
    assert (data.val_scenes[3].boxes == data.val_scenes_without[3].boxes).all()
    assert len(second.dataset) == 60
    assert (data.val_scenes[0].image[20:] == data.val_scenes_without[0].image[20:]).all()


def test_without_a_shortcut_scenes_are_as_before():
    plain, planted = scenes(), scenes(shortcut="background")
    assert not isinstance(plain.val_dataloader(), list)
    assert (plain.train_scenes[4].image == draw_scene(np.random.default_rng([0, 0, 4]), 4, (64, 64),
            (0.16 * 64, 0.92 * 64)).image).all()  # fmt: skip
    assert (plain.train_scenes[4].image != planted.train_scenes[4].image).any()


@pytest.mark.parametrize(
    ("options", "named"),
    [({"shortcut": "glow"}, "`shortcut`"), ({"shortcut": "mark", "shortcut_strength": 1.5}, "`shortcut_strength`")],
)
def test_bad_arguments(options, named):
    with pytest.raises(ValueError, match=named):
        scenes(**options)
    assert CUES == ("mark", "background", "texture", "colour")
