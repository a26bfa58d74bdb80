"""The commands that need torch: explain, benchmark, and LightningCLI's with any model, any data and a summary.

`sess_lightning.cli.main` is what the console calls; it imports this file when one of them is asked for.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from sess_lightning.benchmark import ablation, insertion_deletion, pointing, runtime, sanity
from sess_lightning.callback import SESSCallback
from sess_lightning.callback.keys import BASE, KEYS, PHOTOS, PHOTOS_PART, full_name
from sess_lightning.callback.sample_values import GAIN, Intervals
from sess_lightning.cli.console import one_line, refused
from sess_lightning.cli.explain import explain
from sess_lightning.cli.photo_files import check_out
from sess_lightning.jobs.maps import maps
from sess_lightning.jobs.options import PhotoOptions

_MORE = (
    "Where a network looks in photos: sess-lightning explain --help. "
    "The paper's tables on this machine: sess-lightning benchmark --help"
)
_LOADER = re.compile(r"/dataloader_idx_\d+$")
_CONFIG_HELP = "Path to a configuration file."
_BENCHMARKS: dict[str, Callable[..., None]] = {
    "insertion-deletion": insertion_deletion.insertion_deletion,
    "pointing": pointing.pointing,
    "runtime": runtime.runtime,
    "ablation": ablation.ablation,
    "sanity": sanity.sanity,
}


class SESSCLI(LightningCLI):
    """LightningCLI that prints a summary of the callback's metrics at the end."""

    def after_fit(self) -> None:
        """Print the summary of the last validation."""
        self._summarise()

    def after_validate(self) -> None:
        """Print the summary."""
        self._summarise()

    def after_test(self) -> None:
        """Print the summary."""
        self._summarise()

    def _summarise(self) -> None:
        if self.trainer.is_global_zero:
            print(summary(self.trainer))


def summary(trainer: Trainer) -> str:
    """Returns a table of base method and SESS in the last validation, and where to look.

    Args:
        trainer: the trainer after `fit`, `validate` or `test`.
    """
    metrics = trainer.callback_metrics
    lines: list[str] = []
    callbacks = [one for one in trainer.callbacks if isinstance(one, SESSCallback)]  # type: ignore[attr-defined]
    for callback in callbacks:
        endings = {key[match.start() :] if (match := _LOADER.search(key)) else "" for key in metrics}
        for ending in sorted(endings, key=lambda ending: (len(ending), ending)):  # of the loaders, where there are many
            number = int(ending.rpartition("_")[2]) if ending else next(iter(callback.last_intervals), 0)
            lines += _table(metrics, callback.prefix, ending, callback.last_intervals.get(number, {}))
        lines += _table(metrics, callback.prefix, PHOTOS_PART, callback.last_intervals.get(PHOTOS, {}))
    look = [f"{one.recorder.page} (in a browser)" for one in callbacks if one.recorder.page is not None]
    boards = (logger.save_dir for logger in trainer.loggers if isinstance(logger, TensorBoardLogger))
    look += [f"tensorboard --logdir {folder} --samples_per_plugin images=1000" for folder in boards]
    lines += ["", "Look at it:", *look] if look else []
    return "\n".join(["", *lines, ""])


def _table(metrics: Mapping[str, Tensor], prefix: str, ending: str, intervals: Intervals) -> Iterator[str]:
    """Yields the lines of the table of one loader, or of photos beside it, with SESS's gain; none without values."""
    keys = [key for key in KEYS if key.per_method and key.better and full_name(key.name, prefix, ending) in metrics]
    if not keys:
        return
    head = f"{prefix}{ending}"

    def line(row: str, cells: Iterable[str]) -> str:
        return "".join([f"{row:<{max(12, len(head) + 1)}}", *(f"{cell:>11}" for cell in cells)])

    yield line(head, (key.title for key in keys))
    for row, before in (("base", BASE), ("SESS", "")):
        values = (metrics.get(full_name(f"{before}{key.name}", prefix, ending)) for key in keys)
        yield line(row, ("-" if value is None else format(float(value), ".3f") for value in values))
    gains = [intervals.get(key.name + GAIN) for key in keys]
    for row, end in (("SESS - base", "value"), ("95 %: from", "low"), ("to", "high")) if any(gains) else ():
        yield line(row, ("-" if gain is None else format(getattr(gain, end), "+.3f") for gain in gains))


def run(args: ArgsType) -> int | None:
    """Run a command; returns the exit code of all but LightningCLI's commands.

    Args:
        args: of the command line, those of LightningCLI as it takes them; `None` for those of the process.
    """
    words = sys.argv[1:] if args is None else args
    if isinstance(words, list) and words[:1] == ["explain"]:
        return _explain(words[1:])
    if isinstance(words, list) and words[:1] == ["benchmark"]:
        return _benchmark(words[1:])
    if isinstance(words, list) and words[:1] == ["maps"]:
        return _maps(words[1:])
    if isinstance(words, list) and words[:1] == ["sanity"]:  # short for `benchmark sanity`
        return _benchmark(words)
    SESSCLI(
        LightningModule,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"epilog": _MORE},
        args=args,
    )
    return None


def _benchmark(words: list[str]) -> int:
    """Run `sess-lightning benchmark NAME`; whatever goes wrong ends in one line."""
    parser = ArgumentParser(prog="sess-lightning benchmark", exit_on_error=False)
    parser.add_argument("--config", action="config", help=_CONFIG_HELP)
    commands = parser.add_subcommands(required=True)
    for name, benchmark in _BENCHMARKS.items():
        parts = _work_parser(benchmark)
        commands.add_subcommand(name, parts, help=parts.description)
    try:
        found = parser.parse_args(_underscored(words))
    except ArgumentError as error:
        return refused("benchmark", f"{one_line(error)} See sess-lightning benchmark --help.")
    return _worked("benchmark", _BENCHMARKS[found.subcommand], found[found.subcommand].as_dict())


def _maps(words: list[str]) -> int:
    """Run `sess-lightning maps`; whatever goes wrong ends in one line."""
    try:
        found = _work_parser(maps).parse_args(_underscored(words))
    except ArgumentError as error:
        return refused("maps", f"{one_line(error)} See sess-lightning maps --help.")
    return _worked("maps", maps, found.as_dict())


def _worked(command: str, work: Callable[..., None], values: dict[str, Any]) -> int:
    """Call a function with the options of its parser; returns the exit code."""
    del values["config"]
    try:
        check_out(Path(values["out"]))
        if _measures_photos(work):
            shared = {field.name: values.pop(field.name) for field in fields(PhotoOptions)}
            work(PhotoOptions(**shared), **values)
        else:
            work(**values)
    except Exception as error:  # of a network, a method, a file: this is a command, which ends in words
        return refused(command, one_line(error))
    return 0


def _measures_photos(work: Callable[..., None]) -> bool:
    return "options" in signature(work).parameters


def _work_parser(work: Callable[..., None]) -> ArgumentParser:
    """Every argument of a function as an option; those of `PhotoOptions` stand beside its own, without a group."""
    parser = ArgumentParser(description=(work.__doc__ or "").partition("\n")[0], exit_on_error=False)
    parser.add_argument("--config", action="config", help=_CONFIG_HELP)
    if _measures_photos(work):
        parser.add_class_arguments(PhotoOptions, as_group=False)
    parser.add_function_arguments(work, as_group=False, as_positional=False, skip={"options"})
    return parser


def _explain(words: list[str]) -> int:
    """Run `sess-lightning explain`, whose parser takes any number of photos before the options."""
    description = (explain.__doc__ or "").partition("Args:")[0]
    parser = ArgumentParser(prog="sess-lightning explain", description=description, exit_on_error=False)
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="files, folders and glob patterns")
    parser.add_function_arguments(explain, as_group=False, as_positional=False, skip={"photos"})
    try:
        options = parser.parse_args(_underscored(words)).as_dict()
    except ArgumentError as error:
        return refused("explain", f"{one_line(error)} See sess-lightning explain --help.")
    return explain(**options)


def _underscored(words: list[str]) -> list[str]:
    """Replace the hyphens in names of options by underscores: `--num-scales` is the same as `--num_scales`."""
    return [re.sub(r"^--[a-z-]+", lambda option: "--" + option[0][2:].replace("-", "_"), word) for word in words]
