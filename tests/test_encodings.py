"""Text is UTF-8 on every platform: no file of the package is opened in the platform's encoding."""

import ast
from pathlib import Path

import pytest

import sess_lightning

FILES = sorted(Path(sess_lightning.__file__).parent.rglob("*.py"))
READS_OR_WRITES_TEXT = {"open", "read_text", "write_text", "NamedTemporaryFile", "fdopen"}
OTHERS = {"Image", "webbrowser", "tarfile", "zipfile"}  # whose open() is not for text


def opened_without_encoding(source):
    """Lines that open a text file and do not say in which encoding."""
    for node in ast.walk(ast.parse(source)):
        name = getattr(getattr(node, "func", None), "attr", getattr(getattr(node, "func", None), "id", None))
        if not isinstance(node, ast.Call) or name not in READS_OR_WRITES_TEXT:
            continue
        owner = getattr(getattr(node.func, "value", None), "id", None)
        modes = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
        binary = any(isinstance(mode, ast.Constant) and "b" in str(mode.value) for mode in modes)
        encoded = any(keyword.arg == "encoding" for keyword in node.keywords)
        if owner not in OTHERS and not binary and not encoded:
            yield node.lineno


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("path.read_text()", [1]),
        ("\nopen('a.txt')", [2]),
        ("path.open('w', newline='')", [1]),
        ("path.open('rb'); Image.open(path); path.write_text('x', encoding='utf-8')", []),
    ],
)
def test_the_check_finds_them(source, lines):
    assert list(opened_without_encoding(source)) == lines


def test_every_text_file_has_its_encoding():
    found = {file.name: list(opened_without_encoding(file.read_text(encoding="utf-8"))) for file in FILES}
    assert {name: lines for name, lines in found.items() if lines} == {}
