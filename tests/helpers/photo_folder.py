"""A small folder of photos in COCO format, as a user would have it on disk."""

import json

from PIL import Image

from sess_lightning import SESS, SESSCallback
from tests.helpers.nets import seeded

QUICK = {"num_images": 1, "num_samples": 4}


def write_photos(folder, count):
    """Photos of noise, 80 x 100, each with one or two objects; the last is no picture where `count` is negative."""
    (folder / "images").mkdir(parents=True)
    content = {"images": [], "annotations": [], "categories": [{"id": i, "name": f"class {i}"} for i in range(3)]}
    for i in range(abs(count)):
        pixels = (seeded(i, 80, 100, 3).sigmoid() * 255).byte().numpy()
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        content["images"].append({"id": i, "file_name": f"{i}.png"})
        boxes = [[5, 5, 20, 20]] if i % 2 else [[5, 5, 20, 20], [40, 30, 50, 40]]
        for n, box in enumerate(boxes):
            content["annotations"].append({"image_id": i, "category_id": (i + n) % 3, "bbox": box})
    if count < 0:
        (folder / "images" / f"{abs(count) - 1}.png").write_bytes(b"no picture")
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def watching(folder, window=None, **options):
    """A callback that watches a few photos quickly."""
    return SESSCallback(SESS(num_scales=2, window_size=window), photos=folder, **{**QUICK, **options})
