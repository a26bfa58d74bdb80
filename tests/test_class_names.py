"""Class names in the forms in which lists of them are passed around."""

import codecs
import json

import pytest

from sess_lightning.class_names import read_class_names

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
