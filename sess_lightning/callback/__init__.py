"""The Lightning callback: choice of samples, explanation, metrics, reports to loggers, files."""

from sess_lightning.callback.callback import SESSCallback

__all__ = ["SESSCallback"]
