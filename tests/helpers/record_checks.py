"""Reads and checks a record by docs/record.md, with json and Pillow only: nothing of the package."""

import json
import math

import numpy as np
from PIL import Image

NUMBER = (int, float)
ABOUT = {"format", "version", "sess_lightning", "created", "prefix", "part", "stage", "settings", "class_names", "keys",
         "tolerance", "no_skill", "windows", "samples"}  # fmt: skip
SAMPLE = {"id", "image", "width", "height", "name", "label", "boxes", "outlines", "annotated", "windows"}
LINE = {"number", "epoch", "step", "time", "values", "intervals", "alarms", "samples", "maps", "scores"}
ALWAYS = {"sample", "target", "prediction", "score", "hit", "valid", "drift", "peak", "second"}
BASE = {"base_hit", "base_valid", "base_peak"}
SHOWN_AS = {"random", "worst", "new_error"}
AREAS = {f"{base}{name}_auc" for base in ("", "base_") for name in ("insertion", "deletion")}
RELIANCE = {"object_reliance", "background_reliance"}


def strict(data):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(data, parse_constant=refuse)


def whole_lines(folder):
    path = folder / "validations.jsonl"
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    return [strict(line) for line in lines[:-1]]


def read(folder):
    """The record, its lines, and by line the tiles by kind."""
    record = strict((folder / "record.json").read_bytes())
    lines = whole_lines(folder)
    return record, lines, [tiles(folder, line) for line in lines]


def tiles(folder, line):
    with Image.open(folder / line["maps"]["file"]) as picture:
        assert (picture.format, picture.mode) == ("PNG", "L")
        assert not {"gamma", "icc_profile", "srgb", "chromaticity"} & picture.info.keys()
        pixels = np.asarray(picture)

    def cut(place):
        if place is None:
            return None
        x, y, w, h = place
        assert 0 < max(w, h) <= 128
        assert 0 <= x <= x + w <= pixels.shape[1]
        assert 0 <= y <= y + h <= pixels.shape[0]
        return pixels[y : y + h, x : x + w]

    return {kind: [cut(place) for place in line["maps"][kind]] for kind in ("sess", "base", "second")}


def check(folder):
    """Holds a record against the page; returns what `read` does."""
    record, lines, maps = read(folder)
    assert record.keys() == ABOUT
    assert (record["format"], record["version"]) == ("sess_record", 1)
    assert record["stage"] in ("fit", "validate", "test")
    assert isinstance(record["created"], float)
    for settings in (record["settings"]["sess"], record["settings"]["callback"]):
        assert settings
        assert all(isinstance(one, str) for one in settings.values())
    for key in record["keys"]:
        assert key.keys() == {"name", "title", "meaning", "better", "per_method"}
    assert len({sample["id"] for sample in record["samples"]}) == len(record["samples"])
    for sample in record["samples"]:
        check_sample(folder, record, sample)
    for line in lines:
        check_line(folder, record, line)
    assert sorted({line["number"] for line in lines}) == [line["number"] for line in lines]
    assert not [path for path in folder.rglob("*") if path.suffix == ".tmp"]
    return record, lines, maps


def check_sample(folder, record, sample):
    assert sample.keys() == SAMPLE
    assert sample["image"] == f"images/{sample['id']}.jpg"
    with Image.open(folder / sample["image"]) as image:
        assert image.format == "JPEG"
        assert max(image.size) == min(512, max(sample["width"], sample["height"]))
    assert sample["label"] is None or sample["label"] >= 0
    for box in sample["boxes"]:
        assert len(box) == 5
        assert all(isinstance(one, NUMBER) for one in box)
    for label, points in sample["outlines"]:
        assert isinstance(label, int)
        assert 3 <= len(points) // 2 <= 64
        assert all(0 <= x <= sample["width"] for x in points[::2])
        assert all(0 <= y <= sample["height"] for y in points[1::2])
    assert isinstance(sample["annotated"], bool)
    for x1, y1, x2, y2, height, width in record["windows"][sample["windows"]]:
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height


def check_line(folder, record, line):
    assert line.keys() == LINE
    for value in line["values"].values():
        assert value is None or math.isfinite(value)
    assert all(len(one) == 3 for one in line["intervals"].values())
    columns = line["samples"]
    assert ALWAYS <= columns.keys() <= ALWAYS | BASE | AREAS | RELIANCE | {"kind"}
    assert {len(column) for column in columns.values()} <= {len(columns["sample"])}
    assert all(kind and set(kind.split(" ")) <= SHOWN_AS for kind in columns.get("kind", []))
    assert len(set(columns["sample"])) == len(columns["sample"])
    samples = [record["samples"][number] for number in columns["sample"]]
    for name, kinds in {"hit": (bool, type(None)), "valid": bool, "target": int, "prediction": int}.items():
        for one in (name, f"base_{name}"):
            assert all(isinstance(value, kinds) for value in columns.get(one, []))
    for name in ("peak", "base_peak"):
        for peak, sample in zip(columns.get(name, []), samples, strict=False):
            assert peak is None or (0 <= peak[0] < sample["width"] and 0 <= peak[1] < sample["height"])
    assert all(value is None or 0 <= value <= 1 for value in columns["drift"])
    for name in RELIANCE & columns.keys():
        assert all(value is None or -1 <= value <= 1 for value in columns[name])
    for alarm in line["alarms"]:
        assert alarm.keys() == {"text", "class"}
        assert alarm["class"] is None or alarm["class"] in columns["target"]
    scores = strict((folder / line["scores"]).read_bytes())["scores"]
    assert [len(row) for row in scores] == [len(record["windows"][sample["windows"]]) for sample in samples]
    assert all(value is None or 0 <= value <= 1 for row in scores for value in row)
    maps = tiles(folder, line)
    assert {len(one) for one in maps.values()} == {len(samples)}
    assert all(one is not None for one in maps["sess"])
    for one, sample in zip(maps["sess"], samples, strict=True):
        assert one.shape[0] / one.shape[1] == pytest_approx(sample["height"] / sample["width"])
    assert [one is not None for one in maps["second"]] == [one is not None for one in columns["second"]]


class pytest_approx(float):  # noqa: N801 - the sides of a tile are whole numbers
    def __eq__(self, other):
        return abs(float(self) / other - 1) < 0.1

    __hash__ = float.__hash__
