"""The command line: `sess-lightning fit | validate | test | explain | benchmark | report`."""

from typing import TYPE_CHECKING, Any

from sess_lightning.cli.main import main

if TYPE_CHECKING:
    from sess_lightning.cli.commands import summary

__all__ = ["main", "summary"]


def __getattr__(name: str) -> Any:
    if name == "summary":  # of a trainer: with torch, which help and reports do without
        from sess_lightning.cli.commands import summary

        return summary
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
