"""Walks over photos with a Lightning Trainer, on any number of processes; each result is stored at once."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, Protocol

import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sess_lightning.jobs.dealing import dealt
from sess_lightning.jobs.options import PRECISIONS, PhotoOptions
from sess_lightning.jobs.photos import Cost, JobPhoto, JobPhotos, as_tensors, group_loader

# How long processes wait for the last one at the end, where one may have far slower photos than the others.
_PATIENCE = timedelta(days=7)
_SIGTERM = 128 + 15  # what a shell says of a command that this signal ended


class Measure(Protocol):
    """Work on photos whose patches share batches."""

    def __call__(
        self, models: Mapping[str, nn.Module], images: list[Tensor], targets: list[Mapping[str, Any]]
    ) -> Sequence[Any]:
        """Returns one result for each photo.

        Args:
            models: networks by name, in eval mode, on the device of the images.
            images: each `(3, H, W)`, normalised.
            targets: annotations as given by the data set: `labels`, and `boxes` or `masks` if it has any.
        """


class Store(Protocol):
    """Where results go."""

    def done(self) -> set[str]:
        """Returns the keys of the photos that have a result."""

    def begin(self, writer: str) -> None:
        """Prepare to store results.

        Args:
            writer: name of the process.

        Raises:
            ValueError: if they cannot be stored.
        """

    def add(self, writer: str, photo: JobPhoto, result: Any) -> None:
        """Store the result of one photo; it is on disk when this returns.

        Args:
            writer: name of the process: no other that runs has it.
            photo: the photo.
            result: as `Measure` returned it.
        """

    def close(self) -> None:
        """Let go of what is open: this process stores nothing more."""


class Walk(NamedTuple):
    """What has to be done, and on what.

    Args:
        options: those of the command.
        models: networks by name.
        photos: all photos, also those that have results.
        measure: the work.
        store: where results go.
        cost: the work for a photo, by which photos are dealt to processes.
    """

    options: PhotoOptions
    models: Mapping[str, nn.Module]
    photos: JobPhotos
    measure: Measure
    store: Store
    cost: Cost

    def run_and_judge(self, done: str, then: str) -> bool:
        """Work on the photos that have no result yet; returns whether this process has all results to go on with.

        That is the first process, of a command without `shard`; of one with it, it says what to do next.

        Args:
            done: what the shard is then, for that sentence.
            then: what the command without `shard` does.

        Raises:
            ValueError: if the devices asked for are not there, or a photo that can be read has no result: nothing is
                lost without a word.
        """
        if not self.run():
            return False
        shard = self.options.shard
        if shard is not None:
            print(f"Shard {shard} is {done}. When all shards have ended, the same command without --shard {then}.")
            return False
        lost = self.lost()
        if lost:
            raise ValueError(
                f"Expected every photo that can be read to have a result, but {len(lost)} have none, e.g. {lost[0]}: "
                "another command wrote to the same argument `out` meanwhile, or it was changed. Run this command again."
            )
        return True

    def run(self) -> bool:
        """Work on the photos that have no result yet; returns whether this is the first process.

        For several devices Lightning starts this command once for each.

        Raises:
            ValueError: if the devices asked for are not there.
        """
        trainer = _trainer(self.options)
        # One process alone may have nothing to do. Of several all come, as they must agree on what is left.
        left = self.left() if trainer.world_size == 1 else None
        if left != []:
            module = _Module(self, left)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*does not have many workers.*")
                warnings.filterwarnings("ignore", message=".*predict returned None.*")  # results are stored already
                warnings.filterwarnings("ignore", message=".*Total length of .* across ranks is zero.*")
                try:
                    trainer.predict(module, return_predictions=False)
                finally:
                    self.store.close()
            if module.together is not None:
                # Now the results of all are on disk. A process that failed does not come here: its command has ended.
                torch.distributed.barrier(group=module.together)
        return trainer.is_global_zero

    def lost(self) -> list[str]:
        """Returns the files of photos that could be read and have no result, though all work was done."""
        fine = {*self.store.done(), None}  # None: the file is not there any more
        missing = [index for index in range(len(self.photos)) if self.photos.key(index) not in fine]
        return [photo.file for photo in map(self.photos.__getitem__, missing) if photo.picture is not None]

    def left(self) -> list[list[int]]:
        """Returns the photos of this shard that have no result yet, in their groups.

        A group is walked whole: the last digits of a map depend on what shares its batches.
        """
        together, part = self.options.at_once, self.options.part()
        everything = range(len(self.photos))
        groups = [list(everything[begin : begin + together]) for begin in range(0, len(everything), together)]
        if part.of > 1:
            # By all photos, not by those that are left: the commands of other shards must deal the same.
            groups = [groups[index] for index in dealt(self.costs(groups), part.of)[part.number]]
        done = self.store.done()
        return [group for group in groups if not done or not all(self.photos.key(photo) in done for photo in group)]

    def costs(self, groups: Sequence[Sequence[int]]) -> list[float]:
        """Returns the work of each group."""
        return [sum(self.photos.cost(photo, self.cost) for photo in group) for group in groups]


def _trainer(options: PhotoOptions) -> Trainer:
    try:
        trainer = Trainer(
            devices=options.devices,
            num_nodes=options.num_nodes,
            accelerator=options.accelerator,
            strategy=options.strategy,
            precision=PRECISIONS[options.precision],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            use_distributed_sampler=False,  # photos are dealt by their cost
            inference_mode=False,  # base methods need gradients and enable them themselves
        )
    except Exception as error:
        raise ValueError(
            "Expected arguments `accelerator`, `devices`, `num_nodes` and `strategy` to fit this machine, e.g. 'cpu' "
            f"and 1, but got {options.accelerator!r}, {options.devices!r}, {options.num_nodes} and "
            f"{options.strategy!r}: {error}"
        ) from error
    cluster = getattr(trainer.strategy, "cluster_environment", None)
    if options.num_nodes > 1 and isinstance(cluster, LightningEnvironment) and not _node_is_known():
        raise ValueError(
            f"Expected argument `num_nodes` to be 1 where neither SLURM nor torchrun starts the command on every "
            f"machine, but got {options.num_nodes}. Start it by srun or torchrun, or use --shard."
        )
    return trainer


def _node_is_known() -> bool:
    """Whether somebody has set what the processes of several machines find each other by."""
    return "MASTER_ADDR" in os.environ and ("NODE_RANK" in os.environ or "GROUP_RANK" in os.environ)


class _Module(LightningModule):
    def __init__(self, walk: Walk, left: list[list[int]] | None) -> None:
        super().__init__()
        self.left = left  # where one process works alone
        self.names = list(walk.models)
        self.networks = nn.ModuleList(walk.models.values())  # a list, as a name may contain dots
        self.walk = walk
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer photos than processes
        self.skipped = 0
        self.done: set[str] = set()
        self.together: Any = None  # the process group that waits at the end
        part = walk.options.part()
        self.part = "" if part.of == 1 else f"{part.number}of{part.of}-"

    @property
    def writer(self) -> str:
        return f"{self.part}{self.global_rank}"

    def predict_dataloader(self) -> DataLoader[list[JobPhoto]]:
        """Deal what is left. All processes come here, also those that will have nothing to do."""
        own = self._dealt() if self.left is None else self.left
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self.together = torch.distributed.new_group(timeout=_PATIENCE, backend="gloo")
        if own:
            self.walk.store.begin(self.writer)
            self.done = self.walk.store.done()
        return group_loader(self.walk.photos, own, self.walk.options.workers)

    def _dealt(self) -> list[list[int]]:
        """Returns what is left for this process. Collective call."""
        hands: list[list[list[int]]] = []
        if self.global_rank == 0:
            # By one process: another may see what a process of an earlier command, not yet killed, stores meanwhile.
            groups = self.walk.left()
            dealt_out = dealt(self.walk.costs(groups), self.trainer.world_size)
            hands = [[groups[index] for index in hand] for hand in dealt_out]
        return self.trainer.strategy.broadcast(hands)[self.global_rank]

    def predict_step(self, batch: list[JobPhoto], batch_idx: int) -> None:
        if self.trainer.received_sigterm:  # Lightning keeps the signal, and looks at it in other loops only
            raise SystemExit(_SIGTERM)
        for photo in batch:
            if photo.picture is None:  # nothing is stored: the next run tries again
                self.skipped += 1
                warnings.warn(f"Photo {photo.name} is left out: {photo.problem}", stacklevel=2)
        readable = [photo for photo in batch if photo.picture is not None]
        if all(photo.key in self.done for photo in readable):  # it was the others that have no result
            return
        for photo, result in zip(readable, self._measured(readable), strict=True):
            self.walk.store.add(self.writer, photo, result)

    def _measured(self, photos: list[JobPhoto]) -> Sequence[Any]:
        models = dict(zip(self.names, self.networks, strict=True))
        pictures = [torch.from_numpy(photo.picture).to(self.device) for photo in photos]
        images = [self.walk.photos.normalised(picture) for picture in pictures]
        targets: list[Mapping[str, Any]] = [as_tensors(photo.target) for photo in photos]
        try:
            return self.walk.measure(models, images, targets)
        except ValueError as error:
            said = ", ".join(f"{photo.name} ({photo.file})" for photo in photos)
            raise ValueError(f"Photo {said} could not be measured: {error}") from error

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch  # pictures are moved when they are measured

    def on_predict_end(self) -> None:
        if self.skipped:
            warnings.warn(f"{self.skipped} photos could not be read and are left out.", stacklevel=2)
