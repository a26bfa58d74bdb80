"""Calls of the loggers: pictures and the report to all that can show them, text and layout of charts to TensorBoard."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch.loggers import Logger
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor

from sess_lightning.render.picture import as_pillow

_Call = TypeVar("_Call")


def log_image(loggers: Sequence[Logger], tag: str, image: Tensor, step: int) -> list[str]:
    """Write a picture `(3, H, W)` uint8 to every logger that can show it.

    These are TensorBoard, W&B, MLflow, Comet, DVCLive, Aim, and every logger with the method
    `log_image(key, images, step=None)`, e.g. SwanLab's.

    Args:
        loggers: the trainer's loggers; those of other kinds are left out.
        tag: name of the picture, the same for all steps: the step is the time axis.
        image: `(3, H, W)` uint8.
        step: `trainer.global_step`.

    Returns:
        The names of the classes of loggers that cannot show it.
    """
    unable = []
    for logger in loggers:
        write = _writer(logger)
        if write is not None:
            write(logger, tag, image, step)
        elif type(logger) is not DummyLogger:  # set by fast_dev_run, where nothing is logged
            unable.append(type(logger).__name__)
    return unable


def log_text(loggers: Sequence[Logger], tag: str, text: str, step: int) -> None:
    """Write markdown to every TensorBoard logger."""
    for logger in _boards(loggers):
        logger.experiment.add_text(tag, text, global_step=step)


def log_layout(loggers: Sequence[Logger], categories: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """Lay out TensorBoard's custom scalars: charts that overlay several tags. A later layout replaces an earlier one.

    Args:
        loggers: the trainer's loggers.
        categories: by title of the category, by title of the chart: the tags that the chart overlays.
    """
    for logger in _boards(loggers):
        before = f"{logger._prefix}{logger.LOGGER_JOIN_CHAR}" if getattr(logger, "_prefix", "") else ""
        layout: dict[str, dict[str, list[Any]]] = {category: {} for category in categories}
        for category, charts in categories.items():
            for title, tags in charts.items():  # the plugin reads tags as regular expressions that match a prefix
                layout[category][title] = ["Multiline", [f"^{re.escape(before + tag)}$" for tag in tags]]
        logger.experiment.add_custom_scalars(layout)


def log_report(loggers: Sequence[Logger], tag: str, file: Path, step: int) -> None:
    """Hand the page of a run to every logger that can show one: W&B, MLflow, Comet. Each call sends the whole file.

    Args:
        loggers: the trainer's loggers; those of other kinds are left out.
        tag: name of the page for W&B; the others show the file under its own name, the last one of that name.
        file: the page, HTML.
        step: `trainer.global_step`.
    """
    for logger in loggers:
        send = _by_kind(logger, _SENDERS)
        if send is not None:
            send(logger, tag, file, step)


def log_folder(loggers: Sequence[Logger]) -> Path | None:
    """Returns the local log folder of the first logger that has one, else its folder for files, or `None`."""
    folders: Iterator[Any] = (getattr(logger, name, None) for name in ("log_dir", "save_dir") for logger in loggers)
    return next((Path(folder) for folder in folders if _is_local(folder)), None)


def _is_local(folder: Any) -> bool:
    return isinstance(folder, (str, Path)) and bool(str(folder)) and "://" not in str(folder)


def _boards(loggers: Sequence[Logger]) -> Iterator[Any]:
    return (logger for logger in loggers if _writer(logger) is _tensorboard)


def _writer(logger: Logger) -> Callable[[Any, str, Tensor, int], None] | None:
    """Returns the function that writes to this kind of logger, or `None`.

    Found by its class; else by a method that is called as W&B's.
    """
    known = _by_kind(logger, _WRITERS)
    method = getattr(type(logger), "log_image", None)
    if known is not None or not inspect.isfunction(method):
        return known
    return _usual if {"key", "images", "step"} <= inspect.signature(method).parameters.keys() else None


def _by_kind(logger: Logger, calls: Mapping[str, _Call]) -> _Call | None:
    """By the names of its class and bases: importing the classes would need packages that may not be installed."""
    return next((calls[kind.__name__] for kind in type(logger).__mro__ if kind.__name__ in calls), None)


def _tensorboard(logger: Any, tag: str, image: Tensor, step: int) -> None:
    logger.experiment.add_image(tag, image, global_step=step)


def _usual(logger: Any, tag: str, image: Tensor, step: int) -> None:
    # W&B's, by Lightning's own method, logs the step as trainer/global_step, the axis of the scalars.
    logger.log_image(tag, [image.permute(1, 2, 0).numpy()], step=step)


def _mlflow(logger: Any, tag: str, image: Tensor, step: int) -> None:
    key = tag.replace("/", "_")  # MLflow reads a slash as a folder and then does not show the steps as one series
    logger.experiment.log_image(logger.run_id, image.permute(1, 2, 0).numpy(), key=key, step=step)


def _comet(logger: Any, tag: str, image: Tensor, step: int) -> None:
    logger.experiment.log_image(image.permute(1, 2, 0).numpy(), name=tag, step=step)


def _dvclive(logger: Any, tag: str, image: Tensor, step: int) -> None:
    # A file for each step in one folder is what its page shows with a slider.
    logger.experiment.log_image(f"{tag}/{step}.png", image.permute(1, 2, 0).numpy())


def _aim(logger: Any, tag: str, image: Tensor, step: int) -> None:
    from aim import Image  # there, as the logger comes from it

    logger.experiment.track(Image(as_pillow(image)), name=tag, step=step)


_WRITERS: dict[str, Callable[[Any, str, Tensor, int], None]] = {
    "TensorBoardLogger": _tensorboard,
    "WandbLogger": _usual,
    "MLFlowLogger": _mlflow,
    "CometLogger": _comet,
    "DVCLiveLogger": _dvclive,
    "AimLogger": _aim,
}


def _wandb_page(logger: Any, tag: str, file: Path, step: int) -> None:
    from wandb import Html  # there, as the logger comes from it

    # The text, as the file may be replaced before W&B copies it. No style sheet of W&B's is put into the page.
    page = Html(file.read_text(encoding="utf-8"), inject=False)
    logger.experiment.log({tag: page, "trainer/global_step": step})  # the axis of the scalars, see `_usual`


def _mlflow_page(logger: Any, tag: str, file: Path, step: int) -> None:
    logger.experiment.log_artifact(logger.run_id, str(file))


def _comet_page(logger: Any, tag: str, file: Path, step: int) -> None:
    # Not log_html: it appends to one page of the experiment, and its `clear` would remove what the user logged there.
    logger.experiment.log_asset(str(file), file_name=file.name, overwrite=True, step=step)


_SENDERS: dict[str, Callable[[Any, str, Path, int], None]] = {
    "WandbLogger": _wandb_page,
    "MLFlowLogger": _mlflow_page,
    "CometLogger": _comet_page,
}
