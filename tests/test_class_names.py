"""Class names in the forms in which lists of them are passed around."""

import codecs
import json

import numpy as np
import pytest

from sess_lightning.class_names import class_names_of, read_class_names

NAMES = {0: "größer", 1: "大 cat, tabby"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "größer\n大 cat, tabby\n"),
        ("a.names", "größer\r\n大 cat, tabby"),
        ("a.json", '["größer", "大 cat, tabby"]'),
        ("a.json", json.dumps({"0": "größer", "1": "大 cat, tabby"})),
        ("a.json", '{"0": ["n01440764", "größer"], "1": ["n01443537", "大 cat, tabby"]}'),
        ("a.json", '[["n01440764", "größer"], ["n01443537", "大 cat, tabby"]]'),
        ("a.json", '{"größer": 0, "大 cat, tabby": 1}'),
        ("a.json", '{"categories": [{"id": 0, "name": "größer"}, {"id": 1, "name": "大 cat, tabby"}]}'),
        ("a.txt", "{0: 'größer',\n 1: '大 cat, tabby'}\n"),
        ("a.txt", "['größer', \"大 cat, tabby\"]"),
        ("a.txt", '{"0": "größer", "1": "大 cat, tabby"}'),
    ],
)
@pytest.mark.parametrize("bom", [b"", codecs.BOM_UTF8])
def test_forms(tmp_path, name, text, bom):
    (tmp_path / name).write_bytes(bom + text.encode("utf-8"))
    assert read_class_names(tmp_path / name) == NAMES


@pytest.mark.parametrize("text", ["{cat}\n[dog]\n", "12\n(13)\n", "'cat\n\"dog\n"])
def test_lines_that_only_look_like_python_are_names(tmp_path, text):
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    assert read_class_names(tmp_path / "a.txt") == dict(enumerate(text.split()))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00", "no text in UTF-8"),
        (b"{", "JSONDecodeError"),
        (b'{"n01440764": "tench"}', "n01440764"),
        (b'[{"name": "cat"}]', "TypeError a name is"),
        (b'{"categories": [{"name": "cat"}]}', "KeyError 'id'"),
        (b"[" * 100000, "RecursionError"),
        (b"3", "TypeError"),
        (None, "No such file"),
    ],
)
def test_what_holds_no_names_is_refused_in_words(tmp_path, content, said):
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"Expected argument `classes` .*a\.json: .*{said}"):
        read_class_names(tmp_path / "a.json")


def test_a_folder_is_no_file_of_names(tmp_path):
    with pytest.raises(ValueError, match="Is a directory"):
        read_class_names(tmp_path)


class Named:
    """A data module with something called `class_names`."""

    def __init__(self, names):
        self.class_names = names


class AsMethod:
    def class_names(self):
        return ["cat", "dog"]


class AsStatic:
    @staticmethod
    def class_names():
        return {"cat": 0, "dog": 1}


class NotSetUp:
    @property
    def class_names(self):
        raise RuntimeError("call setup first")


def failing():
    raise KeyError("nothing")


TWO = {0: "cat", 1: "dog"}


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (Named(["cat", "dog"]), TWO),
        (Named(("cat", "dog")), TWO),
        (Named(np.array(["cat", "dog"])), TWO),
        (Named({0: "cat", 1: "dog"}), TWO),
        (Named({"0": "cat", "1": "dog"}), TWO),
        (Named({"cat": 0, "dog": 1}), TWO),
        (Named({7: "cat"}), {7: "cat"}),
        (Named([]), {}),
        (AsMethod(), TWO),
        (AsStatic(), TWO),
        (AsMethod, None),  # the class: its method misses an object
        (Named(lambda index: "cat"), None),
        (Named(failing), None),
        (Named(lambda: None), None),
        (NotSetUp(), None),
        (Named("cat"), None),
        (Named(b"cat"), None),
        (Named(3), None),
        (Named([["cat"], 3.5]), None),
        (Named({"cat": "dog"}), None),
        (Named(object), None),
        (Named(iter(["cat"])), None),
        (object(), None),
        (None, None),
    ],
)
def test_names_that_a_data_module_has(data, names):
    assert class_names_of(data) == names


def test_nothing_of_an_iterator_is_used_up():
    data = Named(iter(["cat", "dog"]))
    assert class_names_of(data) is None
    assert list(data.class_names) == ["cat", "dog"]
