"""Runs a benchmark over its photos with a Lightning Trainer, on one or several devices; rows are written at once."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sess_lightning.benchmark.compared_maps import try_method
from sess_lightning.benchmark.inputs import BenchmarkPhotos, networks, same_normalisation
from sess_lightning.benchmark.store import RowStore
from sess_lightning.benchmark.tables import Row
from sess_lightning.checks import check_choice, check_count
from sess_lightning.networks import grouped, read_groups
from sess_lightning.networks.weights import weights_digest
from sess_lightning.sess import SESS

PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed"}


class Measure(Protocol):
    """Measurement of one photo."""

    def __call__(self, models: Mapping[str, nn.Module], image: Tensor, target: Mapping[str, Any]) -> list[Row]:
        """Returns the rows of one photo.

        Args:
            models: networks by name, in eval mode, on the device of `image`.
            image: `(3, H, W)`, normalised.
            target: annotations as given by the data set: `labels`, and `boxes` or `masks` if it has any.
        """


@dataclass(frozen=True)
class PhotoOptions:
    """Options of every benchmark that measures photos: the photos, the networks, where and how they run.

    Args:
        data: a folder of photos in COCO format, or voc07, coco14, imagenet; pointing needs objects, which imagenet
            lacks.
        model: networks by name, separated by commas; ablation takes one.
        weights: a path or DEFAULT for each, separated by commas.
        groups: JSON file from a class of the data to the network's outputs that stand for it; the networks then tell
            these classes apart, and objects of other classes only distract.
        limit: so many photos, chosen by the seed; all if left out.
        seed: of the choice.
        window: in pixels; of insertion and deletion, the size of the crop too.
        batch_size: patches per forward; the device's default if left out.
        devices: processes, one a device.
        accelerator: of Lightning: auto, cpu, gpu.
        precision: "32", or "bf16" for autocast: faster where the device can, the last digits differ.
        root: where the named data set lies.
    """

    data: str
    model: str = "resnet50"
    weights: str = "DEFAULT"
    groups: str | None = None
    limit: int | None = None
    seed: int = 0
    window: int = 224
    batch_size: int | None = None
    devices: int = 1
    accelerator: str = "auto"
    precision: str = "32"
    root: str | None = None


@dataclass(frozen=True)
class Job:
    """One run of a benchmark over photos.

    Args:
        name: of the benchmark, and so of its files.
        out: folder of the files.
        options: those that all such benchmarks have.
    """

    name: str
    out: str
    options: PhotoOptions

    def described(self) -> str:
        """Returns what was measured, in words, for the head of a table."""
        options = self.options
        chosen = "All photos" if options.limit is None else f"{options.limit} photos (seed {options.seed})"
        autocast = ", bf16 autocast" if options.precision == "bf16" else ""
        return f"{chosen} of `{options.data}`{autocast}, 95 % intervals over photos"

    def walk(self, measure: Measure, algorithms: Mapping[str, SESS], settings: Mapping[str, Any]) -> list[Row] | None:
        """Measure the photos that have no rows yet.

        Args:
            measure: returns the rows of one photo.
            algorithms: SESS as it is used, by the name of the base method: tried before work starts.
            settings: further settings that determine the results, besides photos and networks.

        Returns:
            The rows of all photos on process 0, `None` on the others.

        Raises:
            ValueError: if an argument is unfit, or no photo can be measured.
        """
        own = self.options
        check_count("limit", own.limit, optional=True)
        check_count("devices", own.devices)
        check_choice("precision", own.precision, tuple(PRECISIONS))
        found = networks(own.model, own.weights)
        groups = None if own.groups is None else read_groups(own.groups)
        if groups is not None:
            found = {name: grouped(network, groups, (own.window, own.window)) for name, network in found.items()}
        for name, network in found.items():
            _try_network(name, network.module, algorithms)
        one = same_normalisation(list(found.values()))
        photos = BenchmarkPhotos(own.data, own.root, own.limit, own.seed, one, groups)
        # Which photos are measured is no setting: each is known by its content, and only those asked for count.
        of_networks = {
            "version": sys.modules[__name__.partition(".")[0]].__version__,
            "model": own.model,
            "weights": {name: weights_digest(network.module) for name, network in found.items()},
            "normalisation": [[list(network.mean), list(network.std)] for network in found.values()],
            "precision": own.precision,
            "groups": None if groups is None else dict(zip(groups.names, groups.members, strict=True)),
        }
        store = RowStore(Path(self.out), self.name, {**of_networks, **settings})
        models = {name: network.module.eval().requires_grad_(False) for name, network in found.items()}
        try:
            trainer = Trainer(
                devices=own.devices,
                accelerator=own.accelerator,
                strategy="auto" if own.devices == 1 else "ddp",
                precision=PRECISIONS[own.precision],
                logger=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                inference_mode=False,  # base methods need gradients and enable them themselves
            )
        except Exception as error:
            raise ValueError(
                "Expected arguments `accelerator` and `devices` to be hardware of this machine, e.g. 'cpu' and 1, but "
                f"got {own.accelerator!r} and {own.devices}: {error}"
            ) from error
        rows = _walk(trainer, models, photos, measure, store)
        if rows == []:
            raise ValueError(
                f"Expected argument `data` to hold photos that can be measured, but none of the {len(photos)} in "
                f"{own.data!r} is: they cannot be read, or have no objects that are not marked difficult."
            )
        return rows

    def finish(self, text: str) -> None:
        """Write the results in Markdown to the output folder and print them."""
        folder = Path(self.out)
        (folder / f"{self.name}.md").write_text(text, encoding="utf-8")
        written = [str(path) for path in sorted(folder.glob(f"{self.name}*")) if path.is_file()]
        print(f"\n{text}\nWritten: {', '.join(written)}")


def _try_network(name: str, model: nn.Module, algorithms: Mapping[str, SESS]) -> None:
    """Raise a `ValueError` if a network cannot see a window, or a callable of the user's fails on it."""
    device = torch.device("cpu")
    model.eval()
    for method, sess in algorithms.items():
        window = sess.window_for([])
        try:
            sess.whole_image_logits(model, [torch.zeros(3, *window)], window)
        except Exception as error:
            raise ValueError(
                f"Expected argument `window` to be a size that {name!r} accepts, but it fails on an image of "
                f"{window[0]} x {window[1]} pixels: {type(error).__name__} {error}"
            ) from error
        if "." in method:
            try_method(sess, model, method, device)


class _Walk(LightningModule):
    def __init__(self, models: Mapping[str, nn.Module], measure: Measure, store: RowStore) -> None:
        super().__init__()
        self.names = list(models)
        self.networks = nn.ModuleList(models.values())  # a list, as a name may contain dots
        self.measure, self.store = measure, store
        self.skipped = 0

    def validation_step(self, batch: list[tuple[str, str, Any]], batch_idx: int) -> None:
        models = dict(zip(self.names, self.networks, strict=True))
        for key, photo, sample in batch:
            if isinstance(sample, str):  # nothing is stored: the next run tries again
                self.skipped += 1
                warnings.warn(f"Photo {photo} is left out: {sample}", stacklevel=2)
            else:
                self.store.add(self.global_rank, key, list(map(dict, self._measured(models, photo, *sample))))

    def _measured(
        self, models: Mapping[str, nn.Module], photo: str, image: Tensor, target: Mapping[str, Any]
    ) -> list[Row]:
        try:
            return self.measure(models, image.to(self.device), target)
        except ValueError as error:
            raise ValueError(f"Photo {photo} could not be measured: {error}") from error

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch  # contains strings; the image is moved when it is measured

    def on_validation_end(self) -> None:
        if self.skipped:
            warnings.warn(f"{self.skipped} photos could not be read and are left out.", stacklevel=2)
        # Now the rows of all processes are on disk. One that failed before does not wait here: its command has ended.
        self.trainer.strategy.barrier()


def _walk(
    trainer: Trainer, models: Mapping[str, nn.Module], photos: BenchmarkPhotos, measure: Measure, store: RowStore
) -> list[Row] | None:
    """Measure on one process per device; for several devices Lightning starts this command once per process."""
    todo = photos.without(store.done())
    if len(todo):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            warnings.filterwarnings("ignore", message=".*DistributedSampler.*")  # repeated photos count once
            trainer.validate(_Walk(models, measure, store), DataLoader(todo, collate_fn=list), verbose=False)
    return store.write_csv(photos.names()) if trainer.is_global_zero else None
