"""`sess-lightning maps`: SESS maps of many photos, written for use elsewhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sess_lightning.checks import check_choice, check_count
from sess_lightning.jobs.map_store import TYPES, MapStore, PhotoMaps
from sess_lightning.jobs.networks import Networks
from sess_lightning.jobs.options import PhotoOptions, parsed_scales
from sess_lightning.jobs.photos import JobPhotos
from sess_lightning.jobs.walk import Walk
from sess_lightning.pixels import Size
from sess_lightning.sess import SESS

_SIZES = ("native", "photo")


def maps(
    options: PhotoOptions,
    target: str | None = None,
    method: str = "gradcam",
    num_scales: int = 12,
    scales: str | None = None,
    ratio: float = 0.0,
    smooth: bool = True,
    activation: str = "softmax",
    max_side: int | None = None,
    size: str = "native",
    dtype: str = "uint8",
    out: str = "maps",
) -> None:
    """Write the SESS maps of a folder of photos or of a data set, for use elsewhere.

    Each process writes a tar file in WebDataset's layout, with an index; `sess_lightning.data.SavedMaps` reads them.
    Each photo is on disk when it is explained: a command that was killed resumes where it stopped.

    Args:
        options: photos, network and devices.
        target: the classes to explain: "labels", those that the photo is annotated with; "top1", the predicted one;
            "top3", the best three, and so on. Left out, the labels where the data have any, top1 elsewhere.
        method: the base method, by name or as a dotted path.
        num_scales: scales of SESS.
        scales: the short sides in pixels instead, or multiples of the window (1.0,1.5), separated by commas.
        ratio: of the pre-filter.
        smooth: smooth the maps, as the paper does.
        activation: softmax, or sigmoid for multi-label networks.
        max_side: pixels; larger photos are scaled down to this before they are explained. All as they are if left out.
        size: of the maps of photos that were scaled down: "native", as they were explained, or "photo".
        dtype: uint8, or float16 for twice the size and finer steps.
        out: folder of the maps.
    """
    check_count("max_side", max_side, optional=True)
    if max_side == 1:
        raise ValueError("Expected argument `max_side` to be at least 2 pixels, or left out, but got 1.")
    check_choice("size", size, _SIZES)
    check_choice("dtype", dtype, TYPES)
    check_target(target)
    options.check_one_network()
    options.check()
    sess = SESS(
        method,
        num_scales=None if scales else num_scales,
        scales=parsed_scales(scales),
        window_size=options.window,
        prefilter_ratio=ratio,
        smooth=smooth,
        activation=activation,
        batch_size=options.batch_size,
    )
    networks = Networks.of(options, {method: sess})
    photos = JobPhotos(
        options.data, options.root, options.limit, options.seed, networks.first, networks.groups, max_side, True
    )
    if target in (None, "labels"):
        photos.check_labels(networks.num_classes)
    settings = {
        **networks.settings,
        "target": target,
        "method": method,
        "num_scales": None if scales else num_scales,
        "scales": scales,
        "ratio": ratio,
        "smooth": smooth,
        "activation": activation,
        "window": options.window,
        "max_side": max_side,
        "size": size,
        "dtype": dtype,
    }
    store = MapStore(Path(out), settings, dtype, size == "photo")
    names = {**(networks.first.class_names or {}), **photos.class_names}
    measure = _Explain(sess, target, names)
    walk = Walk(options, networks.models, photos, measure, store, measure.cost)
    if walk.run_and_judge("explained", "writes the index"):
        _finish(store, photos, options)


def check_target(target: str | None) -> None:
    """Raise a `ValueError` unless a target is one that `maps` knows."""
    if target not in (None, "labels") and not re.fullmatch(r"top[1-9]\d*", target or ""):
        raise ValueError(f"Expected argument `target` to be 'labels', or 'top1', 'top2' and so on, but got {target!r}.")


def _finish(store: MapStore, photos: JobPhotos, options: PhotoOptions) -> None:
    """Write the index of all, and say what is there."""
    entries = store.finish(photos.names())
    if not entries:
        raise ValueError(f"Expected argument `data` to hold photos that can be read, but of {options.data!r} none can.")
    shards = sorted({entry["shard"] for entry in entries})
    megabytes = sum(entry["bytes"] for entry in entries) / 2**20
    count = sum(len(entry["classes"]) for entry in entries)
    print(
        f"\n{count} maps of {len(entries)} photos, {megabytes:.1f} MiB: {', '.join(shards)} in {store.folder}\n"
        f"Read them: sess_lightning.data.SavedMaps({str(store.folder)!r})"
    )


@dataclass(frozen=True)
class _Explain:
    sess: SESS
    target: str | None
    class_names: Mapping[int, str]

    def __call__(
        self, models: Mapping[str, nn.Module], images: list[Tensor], targets: list[Mapping[str, Any]]
    ) -> list[PhotoMaps]:
        (model,) = models.values()
        classes = [self._classes(model, image, target) for image, target in zip(images, targets, strict=True)]
        many = [image for image, own in zip(images, classes, strict=True) for _ in own]
        found: list[tuple[Tensor, bool]] = []
        if many:
            labels = torch.tensor([label for own in classes for label in own], device=many[0].device)
            result = self.sess(model, many, labels)
            found = list(zip(result.maps, result.valid.tolist(), strict=True))
        whole = iter(found)
        return [
            self._of_photo(image, own, [next(whole) for _ in own]) for image, own in zip(images, classes, strict=True)
        ]

    def cost(self, size: Size, target: Mapping[str, Tensor]) -> float:
        """The work for a photo: the patches for all classes to explain. A photo without any has to be read."""
        labels = _labels(target)
        count = len(labels) if self.target in (None, "labels") and labels is not None else _top(self.target)
        return 1.0 + count * len(self.sess.windows_for(size, self.sess.window_for([])))

    def _classes(self, model: nn.Module, image: Tensor, target: Mapping[str, Tensor]) -> list[int]:
        labels = _labels(target)
        if self.target == "labels" and labels is None:
            raise ValueError("Expected argument `target` to be 'top1', 'top2' and so on, as the photos have no labels.")
        if self.target in (None, "labels") and labels is not None:
            return labels
        logits = self.sess.whole_image_logits(model, [image], self.sess.window_for([]))[0]
        return logits.argsort(descending=True, stable=True)[: _top(self.target)].tolist()

    def _of_photo(self, image: Tensor, classes: list[int], found: list[tuple[Tensor, bool]]) -> PhotoMaps:
        maps = torch.stack([one for one, _ in found]) if found else image.new_zeros((0, *image.shape[-2:]))
        names = [self.class_names.get(label, str(label)) for label in classes]
        return PhotoMaps(classes, names, maps, [valid for _, valid in found])


def _labels(target: Mapping[str, Tensor]) -> list[int] | None:
    """The classes of a photo, ascending; `None` where the data have none."""
    found = target.get("labels", target.get("label"))
    return None if found is None else sorted({label for label in found.reshape(-1).tolist() if label >= 0})


def _top(target: str | None) -> int:
    return int(target[3:]) if target is not None and target.startswith("top") else 1
