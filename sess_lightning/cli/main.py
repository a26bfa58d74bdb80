"""`sess-lightning`: help and reports at once, other commands after the seconds that importing torch takes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from sess_lightning.cli.console import escaped, refused, say
from sess_lightning.cli.report import report

if TYPE_CHECKING:
    from lightning.pytorch.cli import ArgsType

    from sess_lightning.cli.commands import SESSCLI, summary

__all__ = ["SESSCLI", "main", "summary"]

# What a command does, in a line.
COMMANDS = {
    "fit": "train; the callback in the config shows and measures where the network looks",
    "validate": "measure it once on the validation data",
    "test": "the same on the test data",
    "predict": "Lightning's predict, with the same configs",
    "explain": "where a network looks in photos",
    "maps": "the maps of many photos, written for use elsewhere, on one or many devices",
    "benchmark": "the paper's tables on this machine",
    "sanity": "do maps change when the network's weights are random? Short for benchmark sanity",
    "report": "the records of runs as one HTML file, for any browser",
}


def main(args: ArgsType = None) -> int | None:
    """Entry point of the console command.

    Args:
        args: of the command line; `None` for those of the process. Dictionaries and namespaces go to LightningCLI.

    Returns:
        The exit code; `None` of LightningCLI's commands.
    """
    words = sys.argv[1:] if args is None else args
    if isinstance(words, list):
        first = words[0] if words else None
        if first in (None, "-h", "--help"):
            return _help(asked=first is not None)
        if first == "--version":
            say(f"sess-lightning {sys.modules[__name__.partition('.')[0]].__version__}")
            return 0
        if first == "report":
            return report(words[1:])
        if first not in COMMANDS and not first.startswith("-"):
            return refused(escaped(first), f"no such command; there are {', '.join(COMMANDS)}.")
    from sess_lightning.cli.commands import run

    return run(args)


def _help(asked: bool) -> int:
    """Print the commands; to stderr, and as an error, where one was expected."""
    lines = [
        "usage: sess-lightning COMMAND ...",
        "",
        "See, during training, where an image classifier looks - and measure it.",
        "",
        *(f"  {name:<10} {does}" for name, does in COMMANDS.items()),
        "",
        "The options of a command: sess-lightning COMMAND --help",
        "  -h, --help   this text",
        "  --version    the version",
    ]
    say("\n".join(lines), sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


def __getattr__(name: str) -> Any:
    if name in ("SESSCLI", "summary"):
        from sess_lightning.cli import commands

        return getattr(commands, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
