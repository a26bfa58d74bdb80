"""Records are read whole, and anew where they have changed."""

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
