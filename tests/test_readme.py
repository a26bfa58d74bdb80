"""What the README says is true: its Python runs, its files exist, its keys are the callback's."""

import re

import pytest
import torch

from sess_lightning import SESSCallback
from sess_lightning.jobs.map_store import MapStore, PhotoMaps
from sess_lightning.jobs.photos import JobPhoto


def snippets(root):
    return re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), flags=re.DOTALL)


@pytest.fixture
def in_a_folder_with_maps(tmp_path, monkeypatch):
    """As `sess-lightning maps` leaves it."""
    store = MapStore(tmp_path / "maps", {}, "uint8", photo_size=False)
    store.add(
        "0", JobPhoto("a.jpg 00", "0", "a.jpg", (8, 9), None, {}), PhotoMaps([1], ["cat"], torch.rand(1, 8, 9), [True])
    )
    store.close()
    store.finish({"a.jpg 00": "0"})
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("number", range(6))
@pytest.mark.usefixtures("in_a_folder_with_maps")
def test_snippets_run(root, number):
    names = {}
    exec("from sess_lightning import SESS, SESSCallback", names)  # noqa: S102
    exec(snippets(root)[number], names)  # noqa: S102


def test_there_are_no_more_snippets(root):
    assert len(snippets(root)) == 6


def test_files_exist(root):
    text = (root / "README.md").read_text()
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", text) + re.findall(r"configs/\w+\.yaml", text):
        assert (root / path).is_file(), path


def test_the_keys_are_those_of_the_docstring(root):
    keys = [set(re.findall(r"^\s*\| `(sess/\w+)`", text, flags=re.MULTILINE)) for text in
            ((root / "README.md").read_text(), SESSCallback.__doc__)]  # fmt: skip
    assert keys[0] == keys[1]
    assert len(keys[0]) == 20  # twelve numbers, nine tags, of which a number and a tag are called alarms
