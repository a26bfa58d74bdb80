"""Which folders below a log folder are records."""

import os
import shutil

import pytest

from sess_lightning.viewer.reading import find_records
from tests.helpers.records import RunScript

INFINITE = "1" + "0" * 400


@pytest.fixture(scope="module")
def script():
    return RunScript(samples=3, validations=3)


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

    def test_a_record_is_listed_once_by_the_name_without_links(self, folder, tmp_path):
        (folder.parent / "again").symlink_to(folder)
        (folder.parent / "circle").symlink_to(folder.parent)
        (tmp_path / "link").symlink_to(folder.parent)
        assert list(find_records(folder.parent)) == ["sess_record"]
        assert list(find_records(tmp_path / "link")) == ["sess_record"]  # the root itself may be one

    def test_links_are_followed(self, written, tmp_path):
        for name in ("a", "b/inner"):
            shutil.copytree(written, tmp_path / "elsewhere" / name / "sess_record")
        (tmp_path / "elsewhere/b/back").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "logs").mkdir()
        for name, target in (("run", "a"), ("record", "a/sess_record"), ("runs", "b"), ("gone", "missing")):
            (tmp_path / "logs" / name).symlink_to(tmp_path / "elsewhere" / target)
        (tmp_path / "logs/self").symlink_to("self")
        (tmp_path / "logs/.hidden").symlink_to(tmp_path / "elsewhere")
        found = find_records(tmp_path / "logs")
        assert list(found) == ["record", "runs/inner/sess_record"]
        assert found["record"] == tmp_path / "logs/record"

    def test_links_below_a_record_are_not(self, folder, written, tmp_path):
        shutil.copytree(written, tmp_path / "elsewhere" / "sess_record")
        (folder / "images/link").symlink_to(tmp_path / "elsewhere")
        assert list(find_records(folder.parent)) == ["sess_record"]

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
