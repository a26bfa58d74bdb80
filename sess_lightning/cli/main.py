"""`sess-lightning fit | validate | test | explain | benchmark`.

The first three are LightningCLI with any model and any data, and a summary at the end.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, auto_cli
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from sess_lightning.benchmark import ablation, insertion_deletion, pointing, runtime
from sess_lightning.callback import SESSCallback
from sess_lightning.cli.console import one_line, say
from sess_lightning.cli.explain import WRONG_ARGUMENTS, explain

_MORE = (
    "Where a network looks in photos: sess-lightning explain --help. "
    "The paper's tables on this machine: sess-lightning benchmark --help"
)
_BENCHMARKS: dict[str, Any] = {
    "insertion-deletion": insertion_deletion.insertion_deletion,
    "pointing": pointing.pointing,
    "runtime": runtime.runtime,
    "ablation": ablation.ablation,
}
_COLUMNS = {"insertion": "insertion_auc", "deletion": "deletion_auc", "overall": "overall", "pointing": "pointing_acc"}


class SESSCLI(LightningCLI):
    """LightningCLI that ends by saying what the callback measured and how to look at it."""

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
    """Base method against SESS in the last validation, and the TensorBoard command.

    Args:
        trainer: after `fit`, `validate` or `test`.
    """
    metrics = trainer.callback_metrics
    lines = []
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if not isinstance(callback, SESSCallback):
            continue
        keys = {title: key for title, key in _COLUMNS.items() if f"{callback.prefix}/{key}" in metrics}
        lines.append("".join(["", f"{callback.prefix:<10}", *(f"{title:>11}" for title in keys)]))
        for row, start in (("base", f"{callback.prefix}/base_"), ("SESS", f"{callback.prefix}/")):
            values = (metrics.get(f"{start}{key}") for key in keys.values())
            lines.append(
                "".join([f"{row:<10}", *(f"{'-' if v is None else format(float(v), '.3f'):>11}" for v in values)])
            )
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            lines += ["", "Look at it:", f"tensorboard --logdir {logger.save_dir} --samples_per_plugin images=1000"]
    return "\n".join(["", *lines, ""])


def main(args: ArgsType = None) -> int | None:
    """Entry point of the console command; gives the exit code where a command has one."""
    words = sys.argv[1:] if args is None else args
    if isinstance(words, list) and words[:1] == ["explain"]:
        return _explain(words[1:])
    if isinstance(words, list) and words[:1] == ["benchmark"]:
        return _benchmark(words[1:])
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
    """`sess-lightning benchmark NAME`: wrong arguments end in a message, and what goes wrong later in a traceback."""
    try:
        auto_cli(_BENCHMARKS, args=_underscored(words), prog="sess-lightning benchmark", as_positional=False)
    except (ValueError, ModuleNotFoundError) as error:
        print(f"sess-lightning benchmark: error: {error}", file=sys.stderr)
        return WRONG_ARGUMENTS
    return 0


def _explain(words: list[str]) -> int:
    """`sess-lightning explain`: a parser of its own, as any number of photos stand before the options."""
    description = (explain.__doc__ or "").partition("Args:")[0]
    parser = ArgumentParser(prog="sess-lightning explain", description=description, exit_on_error=False)
    parser.add_argument("photos", nargs="+", metavar="PHOTO", help="files, folders and glob patterns")
    parser.add_function_arguments(explain, as_group=False, as_positional=False, skip={"photos"})
    try:
        options = parser.parse_args(_underscored(words)).as_dict()
    except ArgumentError as error:
        say(f"sess-lightning explain: error: {one_line(error)} See sess-lightning explain --help.", sys.stderr)
        return WRONG_ARGUMENTS
    return explain(**options)


def _underscored(words: list[str]) -> list[str]:
    """`--num-scales` as well as `--num_scales`: the shell's usage beside Python's."""
    return [re.sub(r"^--[a-z-]+", lambda option: "--" + option[0][2:].replace("-", "_"), word) for word in words]
