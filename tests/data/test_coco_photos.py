"""A COCO-format folder, written by the test, read at its own resolution; and what is said when something is missing."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sess_lightning.data import CocoPhotos


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for name, mode, size in (("a.png", "RGB", (30, 20)), ("b.png", "L", (16, 24)), ("c.png", "RGBA", (8, 9))):
        shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], len(mode))
        Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8), mode).save(tmp_path / "images" / name)
    content = {
        "images": [{"id": i, "file_name": name} for i, name in ((3, "c.png"), (1, "a.png"), (2, "b.png"))],
        "annotations": [
            {"image_id": 1, "category_id": 7, "bbox": [1, 2, 10, 5], "iscrowd": 0},
            {"image_id": 1, "category_id": 9, "bbox": [0, 0, 30, 20]},
            {"image_id": 2, "category_id": 7, "bbox": [0.5, 1.5, 3, 4]},
        ],
        "categories": [{"id": 7, "name": "junco"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    return tmp_path


def ready(folder, **options):
    data = CocoPhotos(str(folder), **options)
    data.setup()
    return data


def test_photos_keep_their_resolution_and_boxes_become_corners(folder):
    data = ready(folder, batch_size=3)
    ((images, targets),) = data.val_dataloader()
    assert [tuple(image.shape) for image in images] == [(3, 20, 30), (3, 24, 16), (3, 9, 8)]
    assert targets[0]["boxes"].tolist() == [[1, 2, 11, 7], [0, 0, 30, 20]]
    assert targets[0]["labels"].tolist() == [7, 9]
    assert targets[1]["boxes"].tolist() == [[0.5, 1.5, 3.5, 5.5]]
    assert targets[2]["boxes"].shape == (0, 4)
    assert data.class_names == {7: "junco"}


def test_pixels_are_normalised(folder):
    image = next(iter(ready(folder, mean=[0.5] * 3, std=[0.25] * 3).val_dataloader()))[0][0]
    pixels = torch.from_numpy(np.array(Image.open(folder / "images" / "a.png"))).permute(2, 0, 1) / 255
    torch.testing.assert_close(image, (pixels - 0.5) / 0.25)


def test_limit(folder):
    assert sum(len(images) for images, _ in ready(folder, limit=2, batch_size=1).test_dataloader()) == 2


@pytest.mark.parametrize("broken", ["annotations.json", "images", "images/a.png"])
def test_what_is_missing_is_named(folder, broken):
    (folder / broken).rename(folder / "elsewhere")
    with pytest.raises(ValueError, match=rf"(?s){broken.rpartition('/')[2]}.*images/ and annotations\.json"):
        ready(folder)


def test_annotations_of_another_layout(folder):
    (folder / "annotations.json").write_text("[]")
    with pytest.raises(ValueError, match=r"Could not read .*annotations\.json"):
        ready(folder)


def test_a_broken_photo_is_named(folder):
    (folder / "images" / "b.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"Could not read the photo .*b\.png"):
        list(ready(folder).val_dataloader())


def test_no_root():
    with pytest.raises(ValueError, match=r"--data\.root PHOTOS"):
        CocoPhotos(None).setup()


def test_real_photos(real):
    data = ready(real / "ilsvrc_boxed", limit=3)
    images, targets = next(iter(data.val_dataloader()))
    assert all(image.shape[0] == 3 and min(image.shape[1:]) > 200 for image in images)
    assert all(len(target["boxes"]) for target in targets)
