"""`sess-lightning report`: the records of runs as one HTML file, without importing torch."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from sess_lightning.cli.console import escaped, one_line, refused, say
from sess_lightning.viewer.reading import DamagedRecord, find_records
from sess_lightning.viewer.report import write_report

DEFAULT_OUT = "sess_report.html"


class _Parser(ArgumentParser):
    """Says what is wrong in one line, as the other commands do, and not after the usage."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}. See sess-lightning report --help.")


def report(words: Sequence[str]) -> int:
    """Run `sess-lightning report RUN [RUN...] --out FILE`.

    Args:
        words: the arguments behind `report`.

    Returns:
        The exit code: 0, or 2 where nothing was written.
    """
    try:
        options = _parser().parse_intermixed_args(words)
        out = _checked_out(options.out)
        folders = _records(options.runs)
        damaged = write_report(folders, out, need_one=True)
    except DamagedRecord as error:
        count = "the only record is" if len(folders) == 1 else f"all {len(folders)} records are"
        return refused("report", f"{count} damaged. {escaped(error)}")
    except (ValueError, OSError) as error:
        return refused("report", one_line(error))
    for folder, wrong in damaged.items():
        wrong = wrong.removeprefix(f"{folder.name}: ")  # the whole path says more
        say(f"sess-lightning report: {escaped(folder)} is left out: {escaped(wrong)}", sys.stderr)
    shown = len(folders) - len(damaged)
    say(f"{escaped(out)}: {shown} record{'s' * (shown != 1)}, {_size(out)}; open it in a browser.")
    return 0


def _parser() -> ArgumentParser:
    parser = _Parser(
        prog="sess-lightning report",
        description="Write the records of runs into one HTML file, which any browser opens without a server.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="folder of a record, or a log folder: all records below it are taken"
    )
    parser.add_argument(
        "--out", default=DEFAULT_OUT, metavar="FILE", help="the file, replaced if it is there (default: %(default)s)"
    )
    return parser


def _checked_out(word: str) -> Path:
    out = Path(word)
    if not word or out.is_dir():
        raise ValueError(f"--out {word!r} is a folder. Pass the name of a file, e.g. {str(out / DEFAULT_OUT)!r}.")
    if not out.parent.is_dir():
        raise ValueError(f"the folder of --out {word!r} is not there. Make it, or pass another file.")
    return out


def _records(words: Sequence[str]) -> list[Path]:
    """Returns the folders of the records in the order of the words, each once."""
    found: dict[Path, Path] = {}
    for word in words:
        root = Path(word)
        if not root.is_dir():
            raise ValueError(f"{word!r} is a file, not a folder." if root.exists() else f"there is no folder {word!r}.")
        records = find_records(root).values()
        if not records:
            raise ValueError(
                f"there is no record in {word!r} or below it. Train with SESSCallback(), which writes one beside the "
                "logs (`record=True` is the default)."
            )
        for record in records:
            found.setdefault(record.resolve(), record)
    return list(found.values())


def _size(file: Path) -> str:
    count = file.stat().st_size
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} KB"
