"""Small trees of VOC, COCO and ImageNet in their real formats, as a user would have them on disk."""

import json
from xml.etree import ElementTree

from PIL import Image

from tests.helpers.nets import seeded

COCO_CATEGORIES = [number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]


def write_photo(path, height, width, seed=0, picture=None):
    """A photo of noise, or a picture `(H, W, 3)` uint8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (seeded(seed, height, width, 3).sigmoid() * 255).byte().numpy() if picture is None else picture
    Image.fromarray(pixels).save(path)


def break_photo(path):
    """Cut the second half of a file off."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def voc_object(name, box, difficult=0, **more):
    """An object as VOC lists it; `box` is xmin, ymin, xmax, ymax in pixels counted from 1, the last included."""
    sides = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return {"name": name, "pose": "Left", "truncated": 0, "difficult": difficult, "bndbox": sides, **more}


def write_voc(root, photos):
    """VOCdevkit/VOC2007 with `photos`: by number its height, width, objects and, if it is not to be noise, picture."""
    folder = root / "VOCdevkit" / "VOC2007"
    (folder / "Annotations").mkdir(parents=True)
    for seed, (number, (height, width, objects, *picture)) in enumerate(photos.items()):
        write_photo(folder / "JPEGImages" / f"{number}.jpg", height, width, seed, *picture)
        content = {
            "folder": "VOC2007", "filename": f"{number}.jpg", "source": {"database": "The VOC2007 Database"},
            "size": {"width": width, "height": height, "depth": 3}, "segmented": 0, "object": objects,
        }  # fmt: skip
        ElementTree.ElementTree(_element("annotation", content)).write(folder / "Annotations" / f"{number}.xml")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "test.txt").write_text("".join(f"{number}\n" for number in photos))
    return root


def _element(tag, content):
    element = ElementTree.Element(tag)
    if isinstance(content, dict):
        for key, value in content.items():
            element.extend(_element(key, one) for one in (value if isinstance(value, list) else [value]))
    else:
        element.text = str(content)
    return element


def write_coco(root, images, annotations):
    """val2014 and its annotations, with the 80 category ids of COCO; `images` by id their height and width."""
    names = {number: f"COCO_val2014_{number:012d}.jpg" for number in images}
    for number, (height, width) in images.items():
        write_photo(root / "val2014" / names[number], height, width, number)
    content = {
        "images": [{"id": i, "file_name": names[i], "height": h, "width": w} for i, (h, w) in images.items()],
        "categories": [{"id": number, "name": f"category {number}"} for number in COCO_CATEGORIES],
        "annotations": annotations,
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_val2014.json").write_text(json.dumps(content))
    return root


def write_imagenet(root, photos):
    """val/ with `photos`: by wnid how many; their sizes differ."""
    for wnid, count in photos.items():
        for number in range(count):
            write_photo(root / "val" / wnid / f"ILSVRC2012_val_{number:08d}.JPEG", 70 + number, 90, number)
    return root
