"""Records are read whole, or refused with a sentence that names the file."""

import json
import os
import shutil

import pytest

from sess_lightning.viewer.reading import DamagedRecord, Record, find_records
from tests.helpers.records import RunScript, lines_of

INFINITE = "1" + "0" * 400


@pytest.fixture(scope="module")
def script():
    return RunScript(samples=3, validations=3)


@pytest.fixture(scope="module")
def written(script, tmp_path_factory):
    return script.write(tmp_path_factory.mktemp("written") / "sess_record")


@pytest.fixture
def folder(written, tmp_path):
    """A record to be damaged."""
    return shutil.copytree(written, tmp_path / "logs" / "sess_record")


def change(folder, *path, to, file="record.json", line=0):
    """Put a value, or with `...` nothing, at a path into a file's JSON."""
    lines = (folder / file).read_text().splitlines()
    content = json.loads(lines[line])
    inner = content
    for one in path[:-1]:
        inner = inner[one]
    if to is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    lines[line] = json.dumps(content)
    (folder / file).write_text("\n".join(lines) + "\n")


def all_of(record):
    """Everything that a reader asks for."""
    header, validations = record.header(), record.validations()
    images = [record.image(i) for i in range(len(header["samples"]))]
    return header, validations, images, [(record.maps(v["number"]), record.scores(v["number"])) for v in validations]


class TestGoodRecords:
    def test_all_of_it(self, folder):
        header, validations, images, maps = all_of(Record(folder))
        assert header == json.loads((folder / "record.json").read_text())
        assert validations == lines_of(folder)
        assert images == [(folder / sample["image"]).read_bytes() for sample in header["samples"]]
        assert [one for one, _ in maps] == [(folder / f"maps/{i:06}.png").read_bytes() for i in range(3)]
        assert [json.loads(one) for _, one in maps] == [
            json.loads((folder / f"maps/{i:06}.json").read_text()) for i in range(3)
        ]

    def test_a_resumed_run_supersedes_later_steps(self, folder):
        line = {**lines_of(folder)[1], "number": 3, "epoch": 1}
        with (folder / "validations.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        assert [(one["number"], one["step"]) for one in Record(folder).validations()] == [(0, 12), (3, 24)]
        with pytest.raises(DamagedRecord, match=r"validations\.jsonl has no validation 1"):
            Record(folder).maps(1)

    @pytest.mark.parametrize("unfinished", [b'{"number": 3, "ep', b"\xff", b" ", b"{}"])
    def test_a_last_line_without_its_end_is_left_out(self, folder, unfinished):
        with (folder / "validations.jsonl").open("ab") as file:
            file.write(unfinished)
        assert Record(folder).validations() == lines_of_whole(folder)

    def test_before_the_first_validation(self, folder):
        (folder / "validations.jsonl").write_text("")
        assert Record(folder).validations() == []
        (folder / "validations.jsonl").unlink()
        assert Record(folder).validations() == []
        with pytest.raises(DamagedRecord, match=r"validations\.jsonl has no validation 0"):
            Record(folder).maps(0)

    @pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999", "-1e999"])
    def test_what_browsers_cannot_read_is_null(self, folder, value):
        text = (folder / "validations.jsonl").read_text().replace('"values": {', f'"values": {{"odd": {value}, ', 1)
        (folder / "validations.jsonl").write_text(text)
        (folder / "maps/000000.json").write_text(f'{{"scores": [[{value}], [0.5], []]}}')
        record = Record(folder)
        assert record.validations()[0]["values"]["odd"] is None
        assert record.scores(0) == b'{"scores":[[null],[0.5],[]]}'

    def test_without_maps_scores_and_what_is_optional(self, folder):
        for name in ("maps", "scores", "intervals", "time"):
            change(folder, name, to=..., file="validations.jsonl")
        for name in ("outlines", "windows", "name"):
            change(folder, "samples", 0, name, to=...)
        for name in ("tolerance", "class_names", "settings"):
            change(folder, name, to=...)
        record = Record(folder)
        assert len(record.validations()) == 3
        assert record.scores(0) == b""
        with pytest.raises(DamagedRecord, match=r"validations\.jsonl names a file that a record cannot have: None"):
            record.maps(0)

    @pytest.mark.parametrize("sample", [-1, 3, 10**400], ids=["below", "above", "huge"])
    def test_there_is_no_such_sample(self, folder, sample):
        with pytest.raises(DamagedRecord, match=r"record\.json has no sample") as error:
            Record(folder).image(sample)
        assert len(str(error.value)) < 200


def lines_of_whole(folder):
    return [json.loads(line) for line in (folder / "validations.jsonl").read_bytes().split(b"\n")[:-1]]


class TestFollowing:
    def test_a_line_that_is_added_is_seen(self, script, folder):
        record = Record(folder)
        assert len(record.validations()) == 3
        stamp = record.stamp()
        assert record.validations() is record.validations()  # nothing is read twice
        script.append(folder, 3)
        assert record.stamp() != stamp
        assert [one["number"] for one in record.validations()] == [0, 1, 2, 3]

    def test_only_lines_that_are_new_are_read(self, script, folder, monkeypatch):
        record = Record(folder)
        record.lines()
        seen, parsed = [], Record._parsed

        def noted(self, name, content):
            seen.append(name)
            return parsed(self, name, content)

        monkeypatch.setattr(Record, "_parsed", noted)
        script.append(folder, 3)
        assert [line.number for line in record.lines()] == [0, 1, 2, 3]
        assert seen == ["line 4 of validations.jsonl"]

    @pytest.mark.parametrize("longer", [False, True])
    def test_lines_that_were_changed_are_read_anew(self, script, folder, longer):
        record = Record(folder)
        record.lines()
        if longer:
            script.append(folder, 3)
        file = folder / "validations.jsonl"
        file.write_bytes(file.read_bytes().replace(b'"epoch": 1', b'"epoch": 7', 1))
        os.utime(file, ns=(1, 1))
        assert [one["epoch"] for one in record.validations()] == [0, 7, 2, 3][: 3 + longer]

    def test_a_line_that_is_damaged_later_is_named_each_time(self, folder):
        record = Record(folder)
        record.lines()
        with (folder / "validations.jsonl").open("a") as file:
            file.write("[]\n")
        for _ in range(2):
            with pytest.raises(DamagedRecord, match=r"line 4 of validations\.jsonl is not a JSON object"):
                record.lines()

    def test_a_sample_that_is_added_is_seen(self, folder):
        record = Record(folder)
        all_of(record)
        header = json.loads((folder / "record.json").read_text())
        new = folder / "record.json.new"
        new.write_text(json.dumps({**header, "samples": [*header["samples"], header["samples"][0]]}))
        os.replace(new, folder / "record.json")
        change(folder, "samples", "sample", 0, to=3, file="validations.jsonl", line=2)
        assert record.validations()[2]["samples"]["sample"][0] == 3
        assert record.image(3) == record.image(0)

    def test_a_record_that_was_mended_and_one_that_went(self, folder):
        record, content = Record(folder), (folder / "record.json").read_bytes()
        (folder / "record.json").write_bytes(content[:-1])
        with pytest.raises(DamagedRecord, match="is not JSON"):
            record.header()
        (folder / "record.json").write_bytes(content)
        assert len(record.header()["samples"]) == 3
        shutil.rmtree(folder)
        with pytest.raises(DamagedRecord, match=r"record\.json cannot be read: No such file"):
            record.header()


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


class TestFindRecords:
    def test_names_and_order(self, written, tmp_path):
        for name in ("b/sess_record", "a/version_0/sess_record", "a/sess_photos_record", "ä ö/r"):
            shutil.copytree(written, tmp_path / name)
        shutil.copytree(written, tmp_path / "b/sess_record/images/inner")  # inside a record
        shutil.copytree(written, tmp_path / ".hidden/sess_record")
        assert list(find_records(tmp_path)) == [
            "a/sess_photos_record",
            "a/version_0/sess_record",
            "b/sess_record",
            "ä ö/r",
        ]
        assert find_records(tmp_path)["b/sess_record"] == tmp_path / "b/sess_record"

    def test_a_folder_that_is_itself_a_record(self, written, monkeypatch):
        assert find_records(written) == {"sess_record": written}
        monkeypatch.chdir(written)
        (name,) = find_records(type(written)())
        assert name == "sess_record"

    def test_links(self, folder, tmp_path):
        (folder.parent / "again").symlink_to(folder)
        (folder.parent / "circle").symlink_to(folder.parent)
        (tmp_path / "link").symlink_to(folder.parent)
        assert list(find_records(folder.parent)) == ["sess_record"]
        assert list(find_records(tmp_path / "link")) == ["sess_record"]  # the root itself may be one

    def test_nothing_there(self, tmp_path):
        (tmp_path / "file").touch()
        for root in (tmp_path, tmp_path / "file", tmp_path / "missing", tmp_path / ("x" * 300)):
            assert find_records(root) == {}

    def test_deep_folders_end(self, folder):
        inner = folder.parent
        for _ in range(60):
            inner = inner / "d"
        shutil.copytree(folder, inner / "deep")
        shutil.copytree(folder, inner.parent / "kept")
        (inner / "/".join("d" * 200)).mkdir(parents=True)  # of a thousand, pytest could not tidy up
        assert [name[-8:] for name in find_records(folder.parent)] == ["d/d/kept", "s_record"]

    def test_folders_that_cannot_be_read(self, folder, monkeypatch):
        (folder.parent / "closed").mkdir()
        scandir = os.scandir

        def guarded(path):
            if "closed" in str(path):
                raise PermissionError(13, "Permission denied")
            return scandir(path)

        monkeypatch.setattr("os.scandir", guarded)  # the permissions themselves do not stop root
        assert list(find_records(folder.parent)) == ["sess_record"]

    def test_many_folders_end(self, folder, monkeypatch):
        monkeypatch.setattr("sess_lightning.viewer.reading._MOST_FOLDERS", 3)
        for number in range(5):
            shutil.copytree(folder, folder.parent / f"a{number}")
        assert list(find_records(folder.parent)) == ["a0", "a1"]


def test_a_record_json_of_another_program_hides_no_records(folder):
    logs = folder.parent
    (logs / "record.json").write_text("{}")
    assert find_records(logs) == {"sess_record": folder}
    folder.rename(logs / "mine")
    assert find_records(logs) == {"mine": logs / "mine"}
    assert find_records(logs / "mine") == {"mine": logs / "mine"}
