"""The command line: `sess-lightning fit | validate | test | explain | benchmark`."""

from sess_lightning.cli.main import main, summary

__all__ = ["main", "summary"]
