"""Boxes fit the pixels: photos are read as annotated, or refused by name. JSON is UTF-8 with or without BOM."""

import codecs
import json

import numpy as np
import pytest
import torch
from PIL import Image

from sess_lightning.data import COCO14, CocoPhotos
from tests.helpers.data_trees import write_coco

GREEN = torch.tensor([0, 1.0, 0]).view(3, 1, 1)


def turned_photo(path):
    """A camera held on its side: 40 x 20 in the file, 20 x 40 upright, a green patch at (2, 30) to (8, 36) upright."""
    upright = np.zeros((40, 20, 3), np.uint8)
    upright[30:36, 2:8] = (0, 255, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(upright)).save(path, exif=exif.tobytes())  # 6: the first row is the right side


def coco(folder, width, height, box, **photo):
    (folder / "images").mkdir()
    turned_photo(folder / "images" / "side.png")
    sizes = {"width": width, "height": height} if width is not None else {}
    content = {
        "images": [{"id": 1, "file_name": "side.png", **sizes, **photo}],
        "annotations": [{"image_id": 1, "category_id": 0, "bbox": box}],
        "categories": [{"id": 0, "name": "größer 大"}],
    }
    (folder / "annotations.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return folder


def only_sample(folder):
    data = CocoPhotos(str(folder), mean=[0] * 3, std=[1] * 3)
    data.setup()
    ((images, targets),) = data.val_dataloader()
    return images[0], targets[0]["boxes"].int()[0].tolist()


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        (20, 40, [2, 30, 6, 6]),  # annotated upright
        (40, 20, [30, 12, 6, 6]),  # annotated as stored
        (None, None, [30, 12, 6, 6]),  # nothing said: as stored, as COCO's tools read
        (0, 0, [30, 12, 6, 6]),
    ],
)
def test_boxes_of_a_turned_photo_hold_their_object(tmp_path, width, height, box):
    image, (x1, y1, x2, y2) = only_sample(coco(tmp_path, width, height, box))
    assert image.shape == ((3, height, width) if width else (3, 20, 40))
    assert (image[:, y1:y2, x1:x2] == GREEN).all()
    assert image[1].sum() == 36


@pytest.mark.parametrize(("width", "height"), [(80, 40), (41, 20), (20, 41)])
def test_a_photo_of_another_size_than_annotated_is_refused_by_name_before_work_starts(tmp_path, width, height):
    data = CocoPhotos(str(coco(tmp_path, width, height, [2, 3, 6, 6])))
    with pytest.raises(ValueError, match=rf"side\.png.* annotations say {width} x {height} pixels.* has 40 x 20"):
        data.setup()


def test_a_size_that_is_no_number_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"Could not read .*annotations\.json: .*wide"):
        CocoPhotos(str(coco(tmp_path, "wide", 20, [2, 3, 6, 6]))).setup()


def test_masks_of_a_photo_annotated_upright(tmp_path):
    mask = {"id": 1, "image_id": 3, "category_id": 1, "iscrowd": 0, "bbox": [2, 30, 6, 6],
            "segmentation": [[2, 30, 8, 30, 8, 36, 2, 36]]}  # fmt: skip
    tree = write_coco(tmp_path, {3: (40, 20)}, [mask])
    (photo,) = (tree / "val2014").iterdir()
    turned_photo(tmp_path / "side.png")
    (tmp_path / "side.png").rename(photo)
    data = COCO14(str(tree), mean=[0] * 3, std=[1] * 3)
    data.setup()
    image, target = data.val_dataloader().dataset[0]
    assert torch.equal(image[1] > 0, target["masks"][0])


def test_json_with_a_byte_order_mark(tmp_path):
    folder = coco(tmp_path, 20, 40, [2, 30, 6, 6])
    file = folder / "annotations.json"
    file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())
    data = CocoPhotos(str(folder))
    data.setup()
    assert data.class_names == {0: "größer 大"}


def test_masks_from_json_with_a_byte_order_mark(tmp_path):
    tree = write_coco(tmp_path, {3: (40, 20)}, [])
    file = tree / "annotations" / "instances_val2014.json"
    text = file.read_text(encoding="utf-8").replace("category 1", "größer 大")
    file.write_bytes(codecs.BOM_UTF8 + text.encode())
    data = COCO14(str(tree))
    data.setup()
    assert data.class_names[0] == "größer 大"
