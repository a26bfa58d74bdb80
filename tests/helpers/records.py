"""Records of runs that never were, by docs/record.md: smooth random pictures, maps that move towards the objects."""

import hashlib
import io
import json

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("circle", "square", "triangle")
KEYS = (
    ("insertion_auc", "insertion", "higher"), ("deletion_auc", "deletion", "lower"), ("overall", "overall", "higher"),
    ("pointing_acc", "pointing", "higher"), ("seconds", "seconds", "lower"),
)  # fmt: skip
SIZES = ((192, 192), (192, 96), (96, 192))  # width and height of the samples, in turn
SESS_TILE, BASE_TILE = 64, 48
CORNER = 26  # how far the watermark's middle lies from the corner


class RunScript:
    """What is written: options, then `write(folder)`.

    Args:
        samples: how many; sample i is of class i modulo the number of classes.
        validations: how many.
        classes: their names.
        boxes: whether the samples have boxes, so that there are hits.
        base: whether the base method was compared.
        taken_over: from this validation on, the maps of the last class lie on a watermark in the corner.
        seed: of everything random.
        shared: of the pictures: two runs with the same seed here follow the same samples.
    """

    def __init__(
        self, samples=9, validations=6, classes=CLASSES, boxes=True, base=True, taken_over=None, seed=0, shared=0
    ):
        self.count, self.validations, self.classes, self.boxes, self.base = samples, validations, classes, boxes, base
        self.taken_over, self.rng = taken_over, np.random.default_rng(seed)
        pictures = np.random.default_rng(shared)
        self.samples = [self._sample(pictures, i) for i in range(samples)]
        self.offsets = self.rng.normal(0, 1, (samples, 2, 2))  # by sample and method

    def _sample(self, rng, i):
        (width, height), label = SIZES[i % len(SIZES)], i % len(self.classes)
        radius = int(rng.integers(16, 30))
        centre = [int(rng.integers(radius + 4, side - radius - 4)) for side in (width, height)]
        noise = Image.fromarray(rng.integers(60, 200, (6, 6, 3), dtype=np.uint8))
        picture = noise.resize((width, height), Image.Resampling.BICUBIC)
        box = [centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius]
        draw = ImageDraw.Draw(picture)
        colour = tuple(int(value) for value in rng.integers(80, 255, 3))
        (draw.ellipse, draw.rectangle, draw.ellipse, draw.rectangle)[label % 4](box, fill=colour)
        if self.taken_over is not None and label == len(self.classes) - 1:
            draw.text((width - 52, height - 20), "stock", fill=(255, 255, 255))
        return {
            "size": (width, height),
            "label": label,
            "centre": centre,
            "radius": radius,
            "box": box,
            "picture": picture,
        }

    def write(self, folder):
        """Writes the record; returns its folder."""
        (folder / "images").mkdir(parents=True)
        (folder / "maps").mkdir()
        (folder / "record.json").write_text(json.dumps(self._header(folder)))
        for number in range(self.validations):
            self.append(folder, number)
        return folder

    def append(self, folder, number):
        """Writes one more validation."""
        columns, maps = self._columns(number)
        atlas, boxes = packed(maps)
        Image.fromarray(atlas).save(folder / "maps" / f"{number:06}.png")
        scores = [[round(float(s), 3) for s in self.rng.random(len(_windows(one["size"])))] for one in self.samples]
        (folder / "maps" / f"{number:06}.json").write_text(json.dumps({"scores": scores}))
        line = {
            "number": number, "epoch": number, "step": 12 * (number + 1), "time": 1.7e9 + number,
            **_numbers(columns), "samples": columns, "maps": {"file": f"maps/{number:06}.png", **boxes},
            "scores": f"maps/{number:06}.json",
        }  # fmt: skip
        with (folder / "validations.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _header(self, folder):
        samples, windows = [], []
        for i, one in enumerate(self.samples):
            content = io.BytesIO()
            one["picture"].save(content, "JPEG", quality=90)
            name = f"images/{hashlib.sha1(one['picture'].tobytes()).hexdigest()[:16]}.jpg"  # noqa: S324
            (folder / name).write_bytes(content.getvalue())
            if _windows(one["size"]) not in windows:
                windows.append(_windows(one["size"]))
            samples.append({
                "id": name[7:-4], "image": name, "width": one["size"][0], "height": one["size"][1],
                "name": f"batch {i // 8}, number {i % 8}", "label": one["label"],
                "boxes": [[one["label"], *one["box"]]] if self.boxes else [], "outlines": [], "annotated": self.boxes,
                "windows": windows.index(_windows(one["size"])),
            })  # fmt: skip
        keys = [{"name": name, "title": title, "meaning": "", "better": better, "per_method": name != "seconds"}
                for name, title, better in KEYS]  # fmt: skip
        return {
            "format": "sess_record", "version": 1, "sess_lightning": "0.1.0", "created": 1.7e9, "prefix": "sess",
            "part": "", "stage": "fit", "settings": {"sess": {}, "callback": {}}, "keys": keys, "tolerance": 0.0,
            "class_names": {str(i): name for i, name in enumerate(self.classes)},
            "windows": windows, "samples": samples,
        }  # fmt: skip

    def _columns(self, number):
        """The columns of a validation, and the maps by kind."""
        learnt = number / max(1, self.validations - 1)
        methods = ("", "base_") if self.base else ("",)
        names = ["hit", "valid", "insertion_auc", "deletion_auc", "peak"]
        columns = {name: [] for name in ("sample", "target", "prediction", "score", "drift", "second")}
        columns |= {before + name: [] for before in methods for name in names}
        maps = {"sess": [], "second": []} | ({"base": []} if self.base else {})
        for i, one in enumerate(self.samples):
            wrong = (i * 5 + number) % 7 == 0 and learnt < 0.9
            prediction = (one["label"] + wrong) % len(self.classes)
            row = {"sample": i, "target": one["label"], "prediction": prediction}
            row |= {"score": 0.4 + 0.5 * learnt - 0.3 * wrong, "second": prediction if wrong else None}
            row["drift"] = None if number == 0 else 0.1 * (1 - learnt) + 0.001 * i
            for method, before in enumerate(methods):
                saliency = self._map(one, i, method, learnt, number)
                maps["base" if method else "sess"].append(saliency)
                peak = _peak(saliency, one["size"])
                inside = all(
                    low <= at < high for at, low, high in zip(peak, one["box"][:2], one["box"][2:], strict=True)
                )
                row |= {before + "hit": inside if self.boxes else None, before + "valid": True, before + "peak": peak,
                        before + "insertion_auc": 0.4 + 0.3 * learnt + 0.01 * i - 0.03 * method,
                        before + "deletion_auc": 0.3 - 0.1 * learnt + 0.02 * method}  # fmt: skip
            maps["second"].append(blob(one["size"], (30, 30), 30, SESS_TILE) if wrong else None)
            for name, column in columns.items():
                column.append(row[name])
        return columns, maps

    def _map(self, one, i, method, learnt, number):
        spread = (50 if method else 38) * (1 - learnt * (0.7 if method else 1))
        at = [c + o * spread for c, o in zip(one["centre"], self.offsets[i, method], strict=True)]
        if self.taken_over is not None and number >= self.taken_over and one["label"] == len(self.classes) - 1:
            at = [side - CORNER for side in one["size"]]
        return blob(one["size"], at, 40 if method else 26 - 8 * learnt, BASE_TILE if method else SESS_TILE)


def blob(size, at, sigma, longest):
    """A map in [0, 1] with its peak near a point, `longest` pixels on its long side."""
    scale = longest / max(size)
    width, height = (round(side * scale) for side in size)
    y, x = np.mgrid[:height, :width]
    saliency = np.exp(-(((x + 0.5) / scale - at[0]) ** 2 + ((y + 0.5) / scale - at[1]) ** 2) / (2 * sigma**2))
    saliency += 0.1 * np.cos(x / 9) * np.cos(y / 7)
    return (saliency - saliency.min()) / (saliency.max() - saliency.min())


def packed(maps, width=512):
    """The tiles in rows on one grey picture, and by kind where each lies."""
    x = y = tallest = 0
    places, boxes = [], {}
    for kind, tiles in maps.items():
        boxes[kind] = []
        for tile in tiles:
            if tile is None:
                boxes[kind].append(None)
                continue
            if x + tile.shape[1] > width:
                x, y, tallest = 0, y + tallest, 0
            places.append((x, y, tile))
            boxes[kind].append([x, y, tile.shape[1], tile.shape[0]])
            x, tallest = x + tile.shape[1], max(tallest, tile.shape[0])
    atlas = np.zeros((y + tallest, width), np.uint8)
    for left, top, tile in places:
        atlas[top : top + tile.shape[0], left : left + tile.shape[1]] = np.round(255 * tile)
    return atlas, boxes


def tile_of(folder, number, sample, kind="sess"):
    """A sample's recorded map, `(h, w)` uint8, read with Pillow alone."""
    line = json.loads((folder / "validations.jsonl").read_text().splitlines()[number])
    x, y, width, height = line["maps"][kind][line["samples"]["sample"].index(sample)]
    return np.array(Image.open(folder / line["maps"]["file"]))[y : y + height, x : x + width]


def lines_of(folder):
    return [json.loads(line) for line in (folder / "validations.jsonl").read_text().splitlines()]


def _peak(saliency, size):
    row, column = np.unravel_index(saliency.argmax(), saliency.shape)
    return [int((column + 0.5) * size[0] / saliency.shape[1]), int((row + 0.5) * size[1] / saliency.shape[0])]


def _windows(size):
    """The whole image, then four windows of it at twice the size."""
    width, height = size
    quarters = [[x, y, x + width, y + height, 2 * height, 2 * width] for y in (0, height) for x in (0, width)]
    return [[0, 0, width, height, height, width], *quarters]


def _numbers(columns):
    """Values and intervals of a validation, from its columns."""

    def mean(name):
        found = [value for value in columns.get(name, ()) if value is not None]
        return float(np.mean(found)) if found else None

    values = {"seconds": 2.5}
    for before in ("", "base_"):
        found = {name: mean(before + name) for name in ("insertion_auc", "deletion_auc")}
        values |= {before + name: value for name, value in found.items() if value is not None}
        if None not in found.values():
            values[before + "overall"] = found["insertion_auc"] - found["deletion_auc"]
        if mean(before + "hit") is not None:
            values[before + "pointing_acc"] = mean(before + "hit")
    intervals = {}
    if "pointing_acc" in values:
        share = values["pointing_acc"]
        intervals["pointing_acc"] = [share, max(0, share - 0.1), min(1, share + 0.1)]
    if "base_overall" in values:
        gain = values["overall"] - values["base_overall"]
        intervals["overall_gain"] = [gain, gain - 0.01, gain + 0.01]
    return {"values": values, "intervals": intervals}
