"""Watching a training: the callback, what it follows, measures, reports and saves."""

from sess_lightning.callback.callback import SESSCallback

__all__ = ["SESSCallback"]
