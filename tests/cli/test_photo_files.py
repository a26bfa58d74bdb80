"""Which photos are meant: links are followed, each folder is searched once, results are never searched."""

import os
from pathlib import Path

import pytest
from PIL import Image

from sess_lightning.cli.photo_files import plan


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "sub/b.png", "sub/deep/c.jpg", ".hidden/d.png", "sub/.e.png", "sub/notes.txt"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / "photos" / name, "PNG")
    return tmp_path / "photos"


def found(folder, *words, out="out"):
    jobs = plan([str(word) for word in words], folder.parent / out)
    return {str(job.photo.relative_to(folder.parent)) for job in jobs}


ALL = {"photos/a.png", "photos/sub/b.png", "photos/sub/deep/c.jpg"}


def test_a_folder_with_its_subfolders(folder):
    assert found(folder, folder) == ALL
    assert found(folder, folder, folder / "sub", folder / "a.png", f"{folder}/*.png") == ALL


def test_links_that_lead_in_a_circle(folder):
    (folder / "sub" / "up").symlink_to(folder, target_is_directory=True)
    (folder / "sub" / "here").symlink_to(".", target_is_directory=True)
    (folder / "broken").symlink_to("nowhere")
    assert found(folder, folder) == ALL
    assert found(folder, f"{folder}/**/*.[jp][np]g") == ALL
    assert found(folder, f"{folder}/**/deep/**/*.jpg") == {"photos/sub/deep/c.jpg"}


def test_a_folder_by_two_names(folder):
    (folder / "again").symlink_to("sub", target_is_directory=True)
    (folder.parent / "other").symlink_to("photos", target_is_directory=True)
    assert found(folder, folder) == ALL
    assert found(folder, folder, folder.parent / "other") == ALL
    assert found(folder, folder.parent / "other", folder) == {name.replace("photos", "other") for name in ALL}
    assert found(folder, folder / "sub" / "b.png", folder / "again" / "b.png") == {"photos/sub/b.png"}


def test_a_linked_folder_elsewhere_is_searched(folder):
    (folder.parent / "elsewhere").mkdir()
    Image.new("RGB", (2, 2)).save(folder.parent / "elsewhere" / "f.png")
    (folder / "more").symlink_to(folder.parent / "elsewhere", target_is_directory=True)
    assert found(folder, folder) == {*ALL, "photos/more/f.png"}


def test_a_link_to_a_photo_is_a_photo_of_its_own(folder):
    (folder / "best.png").symlink_to("a.png")
    assert found(folder, folder) == {*ALL, "photos/best.png"}


def test_results_of_an_earlier_run_are_no_photos(folder):
    (folder / "out").mkdir()
    Image.new("RGB", (2, 2)).save(folder / "out" / "a.png")
    assert found(folder, folder, out="photos/out") == ALL
    (folder.parent / "link").symlink_to("photos/out", target_is_directory=True)
    assert found(folder, folder, out="link") == ALL


def test_photos_are_not_overwritten_through_a_link(folder):
    (folder.parent / "out").symlink_to("photos", target_is_directory=True)
    with pytest.raises(ValueError, match=r"`out` .*a\.png would be overwritten"):
        found(folder, folder)


def test_what_was_named_is_known(folder):
    jobs = plan([str(folder), str(folder / "a.png"), "missing.png"], folder.parent / "out")
    assert {job.photo.name for job in jobs if job.named} == {"a.png", "missing.png"}


@pytest.mark.parametrize("out", ["photos/a.png", "photos/a.png/out", "x" * 300])
def test_a_folder_for_results_that_cannot_be_one(folder, out):
    with pytest.raises(ValueError, match=r"Expected argument `out` to be a folder"):
        found(folder, folder, out=out)


@pytest.mark.parametrize("word", ["photos/empty", "photos/*.bmp"])
def test_words_that_mean_no_photo(folder, word, monkeypatch):
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder.parent)
    with pytest.raises(ValueError, match=r"`photos` to name photos, but .* holds none"):
        plan([word], Path("out"))


def test_a_name_that_is_too_long_is_a_file_that_is_missing(folder):
    (job,) = plan(["x" * 5000], Path("out"))
    assert job.photo.name == "x" * 5000
    assert not os.path.exists(job.photo)
