"""The evaluation loaders of a trainer as Lightning numbers them, and whether what the user chose is in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import lightning.pytorch as pl
from lightning.pytorch.utilities.exceptions import MisconfigurationException


class EvaluationLoader(NamedTuple):
    """One evaluation loader; its `dataloader_idx` is its place in the list of `evaluation_loaders`.

    Attributes:
        loader: the loader, or all of a `CombinedLoader` whose batches hold a batch of each.
        num_batches: batches of this validation; infinite where unknown.
    """

    loader: Any
    num_batches: float

    def length(self) -> int | None:
        """Samples that this process sees, or `None` if unknown."""
        sampler = getattr(self.loader, "batch_sampler", None)
        batch_size = getattr(sampler, "batch_size", None) or getattr(self.loader, "batch_size", None)
        try:
            length = len(self.loader.sampler)
        except (AttributeError, TypeError, NotImplementedError):
            return None
        if batch_size is None or self.num_batches == float("inf"):
            return None
        return min(length, int(self.num_batches) * batch_size)


def evaluation_loaders(trainer: pl.Trainer) -> list[EvaluationLoader]:
    """The loaders of the current validation, sanity check or test: nested ones flattened in Lightning's own order.

    Empty where they are not set up yet.
    """
    # Lightning's private names, the same from 2.5 to 2.6: `trainer.val_dataloaders` gives the loaders nested as the
    # user gave them, and in `validate` after a `fit` those of the fit.
    loop = trainer._evaluation_loop
    combined = loop._combined_loader
    if combined is None:
        return []
    batches = list(loop.max_batches)
    if combined._mode == "sequential":
        return [EvaluationLoader(*one) for one in zip(combined.flattened, batches, strict=True)]
    return [EvaluationLoader(combined, (min if combined._mode == "min_size" else max)(batches))]


def ends_here(loaders: Sequence[EvaluationLoader], loader: int, batch_idx: int) -> bool:
    """Whether a validation ends with this batch; where its length is unknown, whether this is the first of that loader.

    The hook of the end comes too late: callbacks that average weights may have put the others back by then.
    """
    last = max((number for number, one in enumerate(loaders) if one.num_batches), default=0)
    unknown = loaders[last].num_batches == float("inf")
    return loader == last and (batch_idx == 0 if unknown else batch_idx + 1 >= loaders[last].num_batches)


def check_choices(
    trainer: pl.Trainer, dataloaders: Sequence[int] | None, indices: Sequence[int] | None, num_processes: int
) -> None:
    """Refuse loaders and positions that are not there, before training or at the start of a validation.

    Args:
        trainer: in a fit or a validation.
        dataloaders: numbers of loaders to watch.
        indices: positions in each watched loader to follow.
        num_processes: of the run; each sees its share.

    Raises:
        MisconfigurationException: if one is out of range.
    """
    loaders = evaluation_loaders(trainer)
    # A test may have other loaders than the validation that the arguments were written for; a dry run sees one batch.
    if not loaders or trainer.testing or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    for number in dataloaders or ():
        if not 0 <= number < len(loaders):
            raise MisconfigurationException(
                f"Expected argument `dataloaders` of SESSCallback to number validation loaders, 0..{len(loaders) - 1}, "
                f"but got {number}. Nested loaders are counted in their order."
            )
    for number, one in enumerate(loaders):
        length = one.length()
        if (
            trainer.sanity_checking
            or not indices
            or length is None
            or (dataloaders is not None and number not in dataloaders)
        ):
            continue
        if not (min(indices) >= 0 and max(indices) < length * num_processes):
            wrong = min(indices) if min(indices) < 0 else max(indices)
            raise MisconfigurationException(
                f"Expected argument `indices` of SESSCallback to be positions of samples that the validation sees, "
                f"0..{length * num_processes - 1} in loader {number}, but got {wrong}. `limit_val_batches` may cut the "
                "loader short; `dataloaders` leaves out loaders."
            )
