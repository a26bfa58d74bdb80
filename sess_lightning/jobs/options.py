"""The options of every command that works through many photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from sess_lightning.checks import check_choice, check_count

PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed"}


class Shard(NamedTuple):
    """One of several equal parts of the work."""

    number: int  # from 0
    of: int


@dataclass(frozen=True)
class PhotoOptions:
    """The photos, the networks, where and how they run: options of every command that works through many photos.

    Args:
        data: a folder of photos in COCO format, or voc07, coco14, imagenet; pointing needs objects, which imagenet
            lacks. For maps also any folder of photos.
        model: networks by name, separated by commas; ablation and maps take one.
        weights: a path or DEFAULT for each, separated by commas.
        groups: JSON file from a class of the data to the network's outputs that stand for it; the networks then tell
            these classes apart, and objects of other classes only distract.
        limit: so many photos, chosen by the seed; all if left out.
        seed: of the choice.
        window: in pixels; of insertion and deletion, the size of the crop too.
        batch_size: patches per forward; the device's default if left out.
        at_once: photos whose patches share batches: more of them fill the batches of a fast device, and take more
            memory. With another number the last digits may differ.
        workers: processes that read and decode photos beside each device; 0 reads between two measurements.
        devices: of this machine, one process each; auto for all that the accelerator has.
        num_nodes: machines; SLURM or torchrun starts the command on each.
        strategy: of Lightning; auto takes DDP where there is more than one process.
        shard: I/N, from 0/N to N-1/N: only this part of the photos, in a command of its own that talks to no other. The
            command without it, with the same `out`, puts the parts together.
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
    at_once: int = 1
    workers: int = 1
    devices: int | str = 1
    num_nodes: int = 1
    strategy: str = "auto"
    shard: str | None = None
    accelerator: str = "auto"
    precision: str = "32"
    root: str | None = None

    def check(self) -> None:
        """Raise a `ValueError` that names the first unfit argument; data and networks are checked as they are read."""
        check_count("limit", self.limit, optional=True)
        check_count("at_once", self.at_once)
        check_count("num_nodes", self.num_nodes)
        if self.devices != "auto":
            check_count("devices", self.devices)
        if self.workers < 0:
            raise ValueError(f"Expected argument `workers` to be 0 or more processes, but got {self.workers}.")
        check_choice("precision", self.precision, tuple(PRECISIONS))
        self.part()

    def check_one_network(self) -> None:
        """Raise a `ValueError` if several networks are named."""
        if "," in self.model or "," in self.weights:
            raise ValueError(
                f"Expected arguments `model` and `weights` to name one network, but got {self.model!r} with "
                f"{self.weights!r}."
            )

    def part(self) -> Shard:
        """Returns the part of the photos that this command works on; the whole is the first of one."""
        if self.shard is None:
            return Shard(0, 1)
        index, slash, count = self.shard.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
            raise ValueError(
                f"Expected argument `shard` to be I/N with I from 0 to N - 1, e.g. 0/4 for the first of four parts, "
                f"but got {self.shard!r}."
            )
        return Shard(int(index), int(count))


def parsed_scales(scales: str | None) -> list[int] | list[float] | None:
    """Returns the scales of a pyramid from a list separated by commas, as `SESS(scales=)` takes them.

    Whole numbers are short sides in pixels; with a point in any of them all are multiples of the window.

    Raises:
        ValueError: if one is no number.
    """
    try:
        if scales is not None and "." in scales:
            return [float(one) for one in scales.split(",")]
        return None if scales is None else [int(one) for one in scales.split(",")]
    except ValueError as error:
        raise ValueError(
            "Expected argument `scales` to be short sides in pixels, or multiples of the window such as 1.0,1.5, "
            f"separated by commas, but got {scales!r}."
        ) from error
