"""Text for a console of any encoding: nothing that cannot be printed ends a run."""

from __future__ import annotations

import re
import sys
from typing import TextIO

from tqdm import tqdm

WRONG_ARGUMENTS = 2
"""The exit code where nothing was done."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def escaped(name: object) -> str:
    r"""A name in one line: control characters and bytes that are no text are escaped.

    Example:
        >>> print(escaped("a\nb.png"))
        a\nb.png
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), str(name))


def one_line(error: BaseException) -> str:
    """What an exception says, in one line; with its kind where it was not raised for the user to read."""
    text = escaped(" ".join(str(error).split()))
    return text if isinstance(error, (ValueError, ModuleNotFoundError)) else f"{type(error).__name__} {text}".strip()


def say(text: str, file: TextIO | None = None) -> None:
    """Print beside a progress bar; letters that the console lacks are escaped.

    Args:
        text: of one or more lines.
        file: `sys.stdout` by default.
    """
    stream = sys.stdout if file is None else file
    encoding = getattr(stream, "encoding", None) or "utf-8"
    tqdm.write(text.encode(encoding, "backslashreplace").decode(encoding), file=stream)


def refused(command: str, message: str) -> int:
    """Say in one line why nothing is done; returns the exit code.

    Args:
        command: that was asked for, e.g. "explain".
        message: what is wrong, and the way out.
    """
    say(f"sess-lightning {command}: error: {message}", sys.stderr)
    return WRONG_ARGUMENTS
