"""A benchmark's walk over its photos, on one device or many: Lightning's own strategies, rows written as they come."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sess_lightning.benchmark.inputs import BenchmarkPhotos, networks, same_normalisation
from sess_lightning.benchmark.store import RowStore
from sess_lightning.benchmark.tables import Row
from sess_lightning.checks import check_choice, check_count

PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed"}


class Measure(Protocol):
    """What a benchmark does with one photo."""

    def __call__(self, models: Mapping[str, nn.Module], image: Tensor, target: Mapping[str, Any]) -> list[Row]:
        """Rows of one photo.

        Args:
            models: by name, on the device of `image`, in eval mode.
            image: `(3, H, W)`, normalised.
            target: as the data set gives it: `labels`, and `boxes` or `masks` where there are some.
        """


@dataclass(frozen=True)
class Job:
    """What the commands that walk over photos have in common, as the command line says it."""

    name: str  # of the benchmark, and so of its files
    data: str
    root: str | None
    limit: int | None
    seed: int
    model: str
    weights: str
    devices: int
    accelerator: str
    precision: str
    out: str

    def described(self) -> str:
        """What was measured, for the head of a table."""
        chosen = "All photos" if self.limit is None else f"{self.limit} photos (seed {self.seed})"
        autocast = ", bf16 autocast" if self.precision == "bf16" else ""
        return f"{chosen} of `{self.data}`{autocast}, 95 % intervals over photos"

    def walk(self, measure: Measure, settings: Mapping[str, Any]) -> list[Row] | None:
        """Measure the photos that are not measured yet, and give the rows of all; None on all processes but the first.

        Args:
            measure: gives the rows of one photo.
            settings: what decides about the numbers, besides photos and networks.
        """
        if self.limit is not None:
            check_count("limit", self.limit)
        check_count("devices", self.devices)
        check_choice("precision", self.precision, tuple(PRECISIONS))
        found = networks(self.model, self.weights)
        photos = BenchmarkPhotos(self.data, self.root, self.limit, self.seed, same_normalisation(list(found.values())))
        of_photos = {"data": self.data, "root": self.root, "limit": self.limit, "seed": self.seed}
        of_networks = {"model": self.model, "weights": self.weights, "precision": self.precision}
        store = RowStore(Path(self.out), self.name, {**of_photos, **of_networks, **settings})
        models = {name: network.module.eval().requires_grad_(False) for name, network in found.items()}
        trainer = Trainer(
            devices=self.devices,
            accelerator=self.accelerator,
            strategy="auto" if self.devices == 1 else "ddp",
            precision=PRECISIONS[self.precision],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            inference_mode=False,  # methods need gradients; they switch them on where they do
        )
        return _walk(trainer, models, photos, measure, store)

    def finish(self, text: str) -> None:
        """Write the Markdown page and print it."""
        folder = Path(self.out)
        (folder / f"{self.name}.md").write_text(text, encoding="utf-8")
        written = [str(path) for path in sorted(folder.glob(f"{self.name}*")) if path.is_file()]
        print(f"\n{text}\nWritten: {', '.join(written)}")


class _Walk(LightningModule):
    def __init__(self, models: Mapping[str, nn.Module], measure: Measure, store: RowStore) -> None:
        super().__init__()
        self.names = list(models)
        self.networks = nn.ModuleList(models.values())  # a list: names may hold dots
        self.measure, self.store = measure, store
        self.skipped = 0

    def validation_step(self, batch: list[tuple[str, Any]], batch_idx: int) -> None:
        models = dict(zip(self.names, self.networks, strict=True))
        for photo, sample in batch:
            rows: list[Row] = []
            if isinstance(sample, str):
                self.skipped += 1
                warnings.warn(f"Photo {photo} is left out: {sample}", stacklevel=2)
            else:
                rows = self._measured(models, photo, *sample)
            self.store.add(self.global_rank, photo, [{"photo": photo, **row} for row in rows])

    def _measured(
        self, models: Mapping[str, nn.Module], photo: str, image: Tensor, target: Mapping[str, Any]
    ) -> list[Row]:
        try:
            return self.measure(models, image.to(self.device), target)
        except ValueError as error:
            raise RuntimeError(f"Photo {photo} could not be measured: {error}") from error

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch  # strings among it; the image is moved when it is used

    def on_validation_end(self) -> None:
        if self.skipped:
            warnings.warn(f"{self.skipped} photos could not be read and are left out.", stacklevel=2)
        self.trainer.strategy.barrier()  # the rows of all processes are on disk


def _walk(
    trainer: Trainer, models: Mapping[str, nn.Module], photos: BenchmarkPhotos, measure: Measure, store: RowStore
) -> list[Row] | None:
    """As many processes as devices; with several, Lightning starts this command once for each."""
    todo = photos.without(store.done())
    if len(todo):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*DistributedSampler.*")  # what it repeats counts once
            trainer.validate(_Walk(models, measure, store), DataLoader(todo, collate_fn=list), verbose=False)
    return store.write_csv() if trainer.is_global_zero else None
