"""A console of any encoding, names of any bytes."""

import io
import os
import sys

import pytest
import torch
from PIL import Image

import sess_lightning.cli as cli
from sess_lightning.cli.console import escaped, say
from sess_lightning.networks.small_cnn import small_cnn

NAMES = ["größe.png", "日本.png", "two\nlines.png", os.fsdecode(b"raw\xff.png"), "tab\tand\x1b[31m.png"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "cp1252"])
def test_nothing_that_is_said_raises(encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    for name in NAMES:
        say(escaped(name), stream)
    stream.flush()
    lines = stream.buffer.getvalue().decode(encoding).splitlines()
    assert len(lines) == len(NAMES)
    assert lines[2:] == [r"two\nlines.png", r"raw\udcff.png", r"tab\tand\x1b[31m.png"]
    assert lines[0] == ("größe.png" if encoding != "ascii" else r"gr\xf6\xdfe.png")


def test_photos_whose_names_the_console_lacks_are_explained(tmp_path, monkeypatch):
    torch.save(small_cnn(3).state_dict(), tmp_path / "w.pth")
    for number, name in enumerate(NAMES):
        Image.new("RGB", (20, 16), (number * 40, 9, 99)).save(tmp_path / name)
    (tmp_path / "日本-broken.png").write_bytes(b"")
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    options = ["--model=small_cnn", f"--weights={tmp_path / 'w.pth'}", f"--out={tmp_path / 'out'}", "--num-scales=1"]
    assert cli.main(["explain", *(str(tmp_path / name) for name in NAMES), *options]) == 0
    assert cli.main(["explain", str(tmp_path / "日本-broken.png"), *options]) == 1
    assert cli.main(["explain", str(tmp_path / NAMES[0]), *options, "--target=größer"]) == 2
    monkeypatch.undo()
    texts = {name: stream.buffer.getvalue() for name, stream in streams.items() if not stream.flush()}
    for shown in (
        rb"gr\xf6\xdfe.png (20 x 16 pixels)",
        rb"two\nlines.png (",
        rb"raw\udcff.png (",
        rb"\u65e5\u672c.png (",
    ):
        assert shown in texts["stdout"]
    assert rb"\u65e5\u672c-broken.png: skipped, the file is empty" in texts["stderr"]
    assert rb"`target`" in texts["stderr"]
    assert len(list((tmp_path / "out").glob("*.npy"))) == len(NAMES)
