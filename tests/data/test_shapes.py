"""ShapeScenes: the same scenes for the same seed whatever else happens, and boxes that fit what was drawn."""

import time

import numpy as np
import pytest
import torch

from sess_lightning.data import IMAGENET_MEAN, IMAGENET_STD, ShapeScenes
from sess_lightning.data.shapes.data_module import SCENE_SIZES, TRAIN_SIZES, SceneDataset
from sess_lightning.data.shapes.drawing import MIN_CONTRAST
from sess_lightning.data.shapes.scenes import draw_scene


def small(**options):
    return ShapeScenes(**{"train_size": 24, "val_size": 6, "batch_size": 6, **options})


def scenes(split, count, **options):
    data = ShapeScenes(train_size=count, val_size=count, **options)
    return list({"train": data.train_scenes, "val": data.val_scenes, "test": data.test_scenes}[split])


def test_a_scene_depends_on_seed_split_and_index_alone():
    first = SceneDataset("val", 9, (96, 96), (10, 30), 6, seed=3)
    np.random.seed(5)
    torch.manual_seed(5)
    second = SceneDataset("val", 1000, (96, 96), (10, 30), 6, seed=3)
    for index in (7, 0, 7):
        assert (first[index].image == second[index].image).all()
        assert (first[index].boxes == second[index].boxes).all()
    others = [SceneDataset(s, 9, (96, 96), (10, 30), 6, seed)[7] for s, seed in (("train", 3), ("test", 3), ("val", 4))]
    assert all((first[7].image != other.image).any() for other in others)


def test_drawing_leaves_the_global_generators_alone():
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    data = small()
    next(iter(data.val_scenes)), next(iter(data.train_scenes))
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert (np.random.get_state()[1] == numpy_before).all()


def test_the_order_of_training_is_a_function_of_the_seed_and_differs_between_epochs():
    def epochs(seed):
        loader = small(seed=seed, train_size=24, batch_size=24).train_dataloader()
        return [next(iter(loader))[1].tolist() for _ in range(2)]

    torch.manual_seed(1)
    first = epochs(0)
    torch.manual_seed(2)
    assert epochs(0) == first
    assert first[0] != first[1]


def test_workers_draw_the_same():
    alone, helped = ([*small(num_workers=n).train_dataloader(), *small(num_workers=n).val_dataloader()] for n in (0, 2))
    assert len(alone) == len(helped) == 5
    for (images, _), (others, _) in zip(alone, helped, strict=True):
        assert torch.equal(images, others)


def test_batches():
    data = small()
    images, labels = next(iter(data.train_dataloader()))
    assert (images.shape, images.dtype) == ((6, 3, 64, 64), torch.float32)
    assert (labels.shape, labels.dtype) == ((6,), torch.int64)
    for loader in (data.val_dataloader(), data.test_dataloader()):
        images, targets = next(iter(loader))
        assert images.shape == (6, 3, 160, 160)
        assert [int(target["label"]) for target in targets] == [0, 1, 2, 3, 4, 5]
        for target in targets:
            assert target["boxes"].dtype == torch.float32
            assert target["boxes"].shape == (len(target["labels"]), 4)
            assert (target["labels"] == target["label"]).all()


def test_pixels_are_normalised():
    data = small()
    images, _ = next(iter(data.val_dataloader()))
    pixels = images * torch.tensor(IMAGENET_STD).view(3, 1, 1) + torch.tensor(IMAGENET_MEAN).view(3, 1, 1)
    drawn = torch.from_numpy(np.stack([data.val_scenes[i].image for i in range(6)])).permute(0, 3, 1, 2)
    torch.testing.assert_close(pixels * 255, drawn.float(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("split", ["train", "val"])
def test_boxes_are_tight_around_what_was_drawn(split):
    for scene in scenes(split, 30):
        assert len(scene.boxes) == len(scene.masks) >= 1
        for (x1, y1, x2, y2), mask in zip(scene.boxes, scene.masks, strict=True):
            inside = mask[y1:y2, x1:x2]
            assert inside.sum() == mask.sum()
            assert inside[0].any()
            assert inside[-1].any()
            assert inside[:, 0].any()
            assert inside[:, -1].any()


def test_the_mask_is_where_the_object_is():
    """In the picture itself: the pixels of a mask have one colour, that of the object, and the rim around has
    another."""
    for scene in scenes("val", 30):
        pixels = scene.image.astype(float) / 255
        for mask in scene.masks:
            colour = np.median(pixels[mask], axis=0)
            near = np.linalg.norm(pixels - colour, axis=-1) < 0.05
            assert (near & mask).sum() > 0.5 * mask.sum()  # the rest is the half-covered edge of something small
            x1, y1, x2, y2 = _box(mask)
            assert (near & ~mask)[y1:y2, x1:x2].mean() < 0.05


def _box(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


@pytest.mark.parametrize(("split", "shares"), [("train", TRAIN_SIZES), ("val", SCENE_SIZES), ("test", SCENE_SIZES)])
def test_sizes_cover_their_range(split, shares):
    low, high = shares[0] * 64, shares[1] * 64
    drawn = scenes(split, 120)
    sides = np.array([max(x2 - x1, y2 - y1) for scene in drawn for x1, y1, x2, y2 in scene.boxes])
    assert sides.min() >= low - 3  # the tips of a star cover less than half of their last pixels
    assert sides.max() <= high + 1
    assert sides.min() < 1.25 * low
    assert sides.max() > 0.8 * high
    assert {len(scene.boxes) for scene in drawn} == {1, 2, 3}


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_object_contrasts_with_its_ground(split):
    assert min(scene.contrasts.min() for scene in scenes(split, 100)) >= MIN_CONTRAST


def test_objects_lie_apart():
    for scene in scenes("val", 60):
        assert scene.masks.sum(axis=0).max() == 1


def test_there_is_clutter():
    """With the objects alone the picture would be calm outside the boxes; count strong edges there."""
    for scene in scenes("val", 12):
        outside = ~scene.masks.any(axis=0)
        steps = np.abs(np.diff(scene.image.astype(int), axis=1)).sum(axis=-1) > 80
        assert (steps & outside[:, 1:] & outside[:, :-1]).sum() > 100


@pytest.mark.parametrize("shape", [(128, 192), 96])
def test_scenes_of_other_sizes(shape):
    images, targets = next(iter(small(window=48, scene_size=shape).val_dataloader()))
    height, width = shape if isinstance(shape, tuple) else (shape, shape)
    assert images.shape[2:] == (height, width)
    boxes = torch.cat([target["boxes"] for target in targets])
    assert (boxes >= 0).all()
    assert (boxes[:, 0::2] <= width).all()
    assert (boxes[:, 1::2] <= height).all()


def test_the_scene_follows_the_window():
    assert ShapeScenes(window=32).scene_shape == (80, 80)


def test_eight_classes():
    data = ShapeScenes(num_classes=8, val_size=16)
    assert data.class_names == ["disc", "square", "triangle", "star", "cross", "ring", "arrow", "heart"]
    assert sorted({scene.label for scene in data.val_scenes}) == list(range(8))


@pytest.mark.parametrize(
    ("argument", "value"),
    [("num_classes", 1), ("num_classes", 9), ("window", 16), ("train_size", 0), ("val_size", -1), ("batch_size", 0),
     ("scene_size", 48), ("scene_size", (200, 32)), ("seed", -1)],
)  # fmt: skip
def test_bad_arguments_are_named(argument, value):
    with pytest.raises(ValueError, match=f"`{argument}` to be .*, but got"):
        ShapeScenes(**{argument: value})


def test_an_index_outside_ends_the_iteration():
    data = small().val_scenes
    assert len(list(data)) == len(data) == 6
    with pytest.raises(IndexError, match=r"\[0, 6\)"):
        data[6]


def test_drawing_is_fast():
    draw_scene(np.random.default_rng(0), 0, (64, 64), (10, 59))
    start = time.process_time()
    for index in range(50):
        draw_scene(np.random.default_rng(index), index % 6, (64, 64), (10, 59))
    assert (time.process_time() - start) / 50 < 0.02  # measured: 0.0015; the margin is for busy machines
