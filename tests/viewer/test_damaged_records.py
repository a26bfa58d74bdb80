"""A record that is damaged is refused with a sentence that names the file."""

import json
import os
import shutil

import pytest

from sess_lightning.viewer.reading import DamagedRecord, Record
from tests.helpers.record_changes import all_of, change
from tests.helpers.records import RunScript, lines_of

INFINITE = "1" + "0" * 400


INFINITE = "1" + "0" * 400


@pytest.fixture(scope="module")
def script():
    return RunScript(samples=3, validations=3)


DEEP = '{"a":' * 500 + "1" + "}" * 500

HEADERS = {
    "empty": (b"", "is not JSON"),
    "cut": (b'{"format": "sess_rec', "is not JSON"),
    "bytes": (bytes(range(256)), "is not JSON"),
    "list": (b"[]", "is not a JSON object"),
    "number": (b"1", "is not a JSON object"),
    "other": (b'{"format": "other"}', "is not the record of a run"),
    "newer": (b'{"format": "sess_record", "version": 2}', "has version 2 of the format"),
    "versionless": (b'{"format": "sess_record"}', "has version None"),
    "long version": (json.dumps({"format": "sess_record", "version": "x" * 9999}).encode(), r"xxx\.\.\. of the format"),
    "deep": (DEEP.encode(), "deep in one another"),
    "very deep": (b"[" * 200_000, "is not JSON"),
    "long number": (b'{"format": ' + b"1" * 5000 + b"}", "is not JSON"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_no_header(folder, name):
    content, said = HEADERS[name]
    (folder / "record.json").write_bytes(content)
    for ask in (Record(folder).header, Record(folder).validations, lambda: Record(folder).image(0)):
        with pytest.raises(DamagedRecord, match=rf"^sess_record: record\.json .*{said}") as error:
            ask()
        assert len(str(error.value)) < 400


BAD = {
    "samples": [..., None, {}, "x", [1], [[]]],
    "keys": [..., None, [1], [{}], [{"name": 3}]],
    "windows": [..., None, {}, [1], [[1]], [[[1, 2, 3, 4, 5]]], [[["1", 2, 3, 4, 5, 6]]]],
    "class_names": [[], "x", {"0": 1}, {"0": None}],
    "tolerance": ["x", [], True],
    "no_skill": ["x", [], {"pointing_acc": "x"}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_header_that_lacks_something(folder, name, value):
    change(folder, name, to=value)
    with pytest.raises(DamagedRecord, match=rf"^sess_record: record\.json has .*{name.rstrip('s')}"):
        Record(folder).header()


BAD_SAMPLE = {
    "id": [..., None, 3],
    "image": [..., None, 3],
    "width": [..., None, 0, -1, 1.5, True, "1", 10**9],
    "height": [..., 0, int(INFINITE)],
    "label": [1.5, "1", True, 2**60],
    "boxes": [..., None, {}, [1], [[1, 2, 3, 4]], [[1, 2, 3, 4, None]], [[1, 2, 3, 4, float("inf")]]],
    "outlines": [{}, [1], [[1]], [[1, [1]]], [[1, ["x", 1]]], [[1, [int(INFINITE), 1]]], [["x", [1, 1]]]],
    "windows": [-1, 99, 1.5, "0", True],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_SAMPLE.items() for value in values])
def test_a_sample_that_is_damaged(folder, name, value):
    change(folder, "samples", 1, name, to=value)
    with pytest.raises(DamagedRecord, match=rf"^sess_record: record\.json has a sample, number 1, with.*{name}"):
        Record(folder).header()


BAD_LINE = {
    ("number",): [..., None, -1, 1.5, "0", True, 0],
    ("epoch",): [..., None, "0", 2**70],
    ("step",): [..., None, 0.5],
    ("values",): [..., None, [], {"a": "x"}, {"a": []}, {"a": int(INFINITE)}],
    ("intervals",): [[], {"a": 1}, {"a": [1, 2]}, {"a": [1, 2, "x"]}],
    ("scores",): [3, []],
    ("samples",): [..., None, [], {}],
    ("samples", "sample"): [..., None, [0, 1, 3], [0, 1, -1], [0, 1, "2"], [0, 1, True]],
    ("samples", "hit"): [None, {}, [True], [1, 2, "x"], [1, 2, []]],
    ("samples", "peak"): [[1, 2, 3], [[1], None, None], [[1, 2], [1, None], None]],
    ("samples", "kind"): [
        None,
        ["random"],
        ["random", "random", ""],
        ["random", "worst", None],
        ["random", 1, "best"],
        ["random", "worst  new_error", "worst"],
    ],
    ("maps",): [[], "x", 1],
    ("maps", "sess"): [{}, [], [None], [[0, 0, 1]] * 3, [[0, 0, 1, 0]] * 3, [[-1, 0, 1, 1]] * 3, [[0, 0, 1, 1e9]] * 3],
    ("maps", "second"): [[[0, 0, 10**6, 10**6]] * 3],
}


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, values in BAD_LINE.items() for value in values])
def test_a_line_that_is_damaged(folder, path, value):
    change(folder, *path, to=value, file="validations.jsonl", line=1)
    record = Record(folder)
    with pytest.raises(DamagedRecord, match=rf"^sess_record: line 2 of validations\.jsonl has .*{path[-1]}"):
        record.validations()
    assert record.header()


NO_LINES = {
    "empty": b"", "list": b"[]", "words": b"nonsense", "bytes": b"\xff\xfe", "cut": b'{"number": 0',
    "deep": DEEP.encode(),
}  # fmt: skip


@pytest.mark.parametrize("line", NO_LINES.values(), ids=NO_LINES)
def test_a_line_that_is_no_object(folder, line):
    lines = (folder / "validations.jsonl").read_bytes().splitlines()
    (folder / "validations.jsonl").write_bytes(b"\n".join([lines[0], line, lines[2], b""]))
    with pytest.raises(DamagedRecord, match=r"^sess_record: line 2 of validations\.jsonl (is|holds)"):
        Record(folder).validations()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"scores": [[1]]}', b'{"scores": [[1], 2, [3]]}', b"\xff"])
def test_scores_that_are_damaged(folder, content):
    (folder / "maps/000001.json").write_bytes(content)
    with pytest.raises(DamagedRecord, match=r"^sess_record: maps/000001\.json (is|has)"):
        Record(folder).scores(1)


ELSEWHERE = (
    "images/../../x.jpg", "images/../record.json", "../x.jpg", "/etc/passwd", "images/a/b.jpg", "images/.jpg",
    "images/", "", "images\\..\\x.jpg", "images/x.jpg\n", "images/x\0.jpg", "images/x.svg",
    f"images/{'x' * 129}.jpg", "maps/0.png",
)  # fmt: skip


@pytest.mark.parametrize("name", ELSEWHERE)
def test_names_that_lead_elsewhere(folder, name):
    (folder.parent / "x.jpg").write_bytes(b"secret")
    change(folder, "samples", 0, "image", to=name)
    with pytest.raises(DamagedRecord, match=r"^sess_record: record\.json names a file that a record cannot have"):
        Record(folder).image(0)
    line = lines_of(folder)[0]
    for key, value in (("maps", {**line["maps"], "file": name.replace("png", "jpg")}), ("scores", name)):
        change(folder, key, to=value, file="validations.jsonl")
    for ask in (Record(folder).maps, Record(folder).scores):
        with pytest.raises(DamagedRecord, match=r"^sess_record: validations\.jsonl names a file"):
            ask(0)


class TestLinksAndOddFiles:
    def test_links_out_of_the_record(self, folder):
        outside = folder.parent / "outside"
        shutil.move(folder / "images", outside)
        (folder / "images").symlink_to(outside)
        with pytest.raises(DamagedRecord, match=r"images/\w+\.jpg lies outside the record"):
            Record(folder).image(0)
        (folder / "maps/000000.png").unlink()
        (folder / "maps/000000.png").symlink_to(folder.parent / "nothing.png")
        with pytest.raises(DamagedRecord, match=r"maps/000000\.png lies outside the record"):
            Record(folder).maps(0)

    @pytest.mark.parametrize("name", ["record.json", "validations.jsonl"])
    def test_its_own_files_are_no_links_out_of_it(self, folder, name):
        shutil.move(folder / name, folder.parent / name)
        (folder / name).symlink_to(folder.parent / name)
        with pytest.raises(DamagedRecord, match=f"{name} lies outside the record"):
            all_of(Record(folder))

    def test_links_inside_and_to_the_record(self, folder, tmp_path):
        shutil.move(folder / "images", folder / "pictures")
        (folder / "images").symlink_to("pictures")
        (tmp_path / "link").symlink_to(folder)
        assert Record(tmp_path / "link").image(0) == Record(folder).image(0)

    def test_links_in_a_circle(self, folder):
        shutil.rmtree(folder / "images")
        (folder / "images").symlink_to("images")
        (folder / "validations.jsonl").unlink()
        (folder / "validations.jsonl").symlink_to("validations.jsonl")
        with pytest.raises(DamagedRecord, match=r"images/\w+\.jpg cannot be read"):
            Record(folder).image(0)
        with pytest.raises(DamagedRecord, match=r"validations\.jsonl cannot be read"):
            Record(folder).validations()

    def test_pipes_and_folders_are_not_read(self, folder):
        """To open a pipe waits until somebody writes into it."""
        image = folder / Record(folder).header()["samples"][0]["image"]
        image.unlink()
        os.mkfifo(image)
        (folder / "maps/000000.png").unlink()
        (folder / "maps/000000.png").mkdir()
        (folder / "validations.jsonl").rename(folder / "old")
        for ask in (lambda record: record.image(0), lambda record: record.maps(0)):
            (folder / "validations.jsonl").unlink(missing_ok=True)
            shutil.copy(folder / "old", folder / "validations.jsonl")
            with pytest.raises(DamagedRecord, match="is no file"):
                ask(Record(folder))
        (folder / "record.json").unlink()
        os.mkfifo(folder / "record.json")
        with pytest.raises(DamagedRecord, match=r"record\.json is no file"):
            Record(folder).header()

    def test_a_huge_file_is_not_read(self, folder):
        with (folder / "validations.jsonl").open("r+b") as file:
            file.truncate(2**40)  # takes no room
        with pytest.raises(DamagedRecord, match=r"validations\.jsonl is larger than"):
            Record(folder).validations()
