"""SESS: Saliency Enhancing with Scaling and Sliding (Tursun et al., ECCV 2022), Algorithm 1.

The line numbers in the comments are those of Algorithm 1. Patches of all images go through the model in one stream of
`batch_size`, built lazily, so memory does not grow with the number of scales or images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sess_lightning import fusion
from sess_lightning.checks import check_images, check_options
from sess_lightning.outputs import check_targets, class_scores, predicted_classes, read_logits
from sess_lightning.probing import default_batch_size, empty_batch, model_device, probe
from sess_lightning.saliency.explanation import Method, explain
from sess_lightning.saliency.naming import resolve_method
from sess_lightning.windows import Size, Window, iter_patches, pyramid_sizes, resize, short_side_sizes, sliding_windows


@dataclass
class SESSResult:
    """What SESS found, image by image.

    Attributes:
        maps: `(B, H, W)` in [0, 1], float32 (float64 for float64 models), on the model's device; a list of `(H, W)`
            where
            the sizes differ.
        targets: `(B,)` long, the classes explained.
        scores: one `(P,)` an image: probability of the class for every patch, `S^c` in the paper.
        windows: one `(P, 6)` int an image: x1, y1, x2, y2 in the scaled image, then its height and width.
        kept: one `(K,)` long an image: the patches that passed the pre-filter, ascending.
        valid: `(B,)` bool: False where the fused map was constant or not finite, and so is given as zeros.
        patch_maps: with `keep_patches=True` one `(K, H, W)` an image: the calibrated maps `L` of the kept patches,
            unweighted.
    """

    maps: Tensor | list[Tensor]
    targets: Tensor
    scores: list[Tensor]
    windows: list[Tensor]
    kept: list[Tensor]
    valid: Tensor
    patch_maps: list[Tensor] | None = None


class SESS:
    """Saliency maps of a classifier, sharpened by scaling and sliding.

    Any base method, any classifier, images of any size.

    Args:
        method: the base method: a name (`"gradcam"`), a method object, a dotted path, or any callable
            `(model, images, targets) -> maps`.
        num_scales: scales of the pyramid, `n` in the paper. The image is scaled to cover the window times `1 + 2/7 i`.
            12, the
            released default; fewer cost less and blur more.
        scales: the short sides in pixels instead, e.g. `[352, 608, 864]`; excludes `num_scales`.
        window_size: what the network sees at a time, in pixels: an int, `(h, w)`, or `None` for the size of the images
            given.
            224, the training size of most ImageNet models.
        step_size: distance of two windows, an int or `(vertical, horizontal)`; `None` means the window: no overlap but
            at the
            border. Smaller is finer and dearer (Fig. 10).
        prefilter_ratio: `r` in [0, 1): of `N` patches the `N - int(N r)` with the best scores are explained. 0 by
            default: with
            Grad-CAM, maps come out of the scoring pass itself, so filtering would save nothing.
        threshold: theta of Eq. 2, applied to the weighted map. 0, as in the paper.
        pool: `"mean"` (Eq. 2), `"plain_mean"` (divides by the number of patches: Fig. 9) or `"max"`.
        weight_by_score: weigh every patch by `p / max(p)` over all patches of the image (Fig. 7 switches this off).
        minmax: min-max after fusion, before smoothing, as the paper's text says (the released code does not).
        smooth: Gaussian of 11 pixels, sigma 5.
        activation: `"softmax"`, or `"sigmoid"` for multi-label heads.
        batch_size: patches per forward; bounds the memory. `None`: 8 on a CPU, 64 on an accelerator.

    Raises:
        ValueError, TypeError: if an argument is out of its range; names it and what was expected.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> result = SESS(num_scales=3, window_size=32)(net, torch.rand(2, 3, 48, 64), torch.tensor([0, 1]))
        >>> result.maps.shape, len(result.scores[0])
        (torch.Size([2, 48, 64]), 12)
    """

    def __init__(
        self,
        method: Callable[..., Any] | str = "gradcam",
        num_scales: int | None = None,
        scales: Sequence[int] | None = None,
        window_size: int | tuple[int, int] | None = 224,
        step_size: int | tuple[int, int] | None = None,
        prefilter_ratio: float = 0.0,
        threshold: float = 0.0,
        pool: str = "mean",
        weight_by_score: bool = True,
        minmax: bool = True,
        smooth: bool = True,
        activation: str = "softmax",
        search: str = "exhaustive",
        batch_size: int | None = None,
    ) -> None:
        self.method: Method = resolve_method(method)
        self.num_scales = 12 if num_scales is None and scales is None else num_scales
        self.scales = None if scales is None else list(scales)
        self.window_size = _pair(window_size)
        self.step_size = _pair(step_size)
        self.prefilter_ratio = prefilter_ratio
        self.threshold = threshold
        self.pool = pool
        self.weight_by_score = weight_by_score
        self.minmax = minmax
        self.smooth = smooth
        self.activation = activation
        self.search = search
        self.batch_size = batch_size
        check_options(self)

    def __call__(
        self,
        model: nn.Module,
        images: Tensor | Sequence[Tensor],
        targets: Tensor | None = None,
        *,
        keep_patches: bool = False,
    ) -> SESSResult:
        """Explain one class for each image.

        Args:
            model: any classifier; its modes, gradients, hooks and random states are as before when this returns.
            images: `(B, C, H, W)`, or a list of `(C, H, W)` of any sizes, normalised as the model expects.
            targets: `(B,)` long, the classes to explain; `None` explains the class predicted for the whole image,
                squashed
                to the window.
            keep_patches: keep the calibrated map of every patch, which takes `K x H x W` floats an image.

        Raises:
            TypeError, ValueError: if images or targets are unfit; says which and why.
        """
        images = check_images(images)
        window = self.window_for(images)
        with probe(model):
            device = model_device(model, images[0].device)
            if targets is None:
                targets = predicted_classes(self.whole_image_logits(model, images, window))
            targets = check_targets(targets, len(images)).to(device, copy=True)
            windows = [self.windows_for(_size(image), window) for image in images]
            scores, maps = self._score(model, images, windows, targets)
            kept = [_prefilter(s, self.prefilter_ratio) for s in scores]  # line 12
            if maps is None:
                kept_windows = [[w[i] for i in k.tolist()] for w, k in zip(windows, kept, strict=True)]
                patch_maps = self._extract(model, images, kept_windows, targets)
            else:
                patch_maps = [m[k] for m, k in zip(maps, kept, strict=True)]
            return self._assemble(images, windows, targets, scores, kept, patch_maps, keep_patches)

    def window_for(self, images: Sequence[Tensor]) -> Size:
        """Height and width of the window for these images: `window_size`, or the size that they all have.

        Raises:
            ValueError: if `window_size` is None and the sizes differ.
        """
        if self.window_size is not None:
            return self.window_size
        sizes = sorted({_size(image) for image in images})
        if len(sizes) > 1:
            raise ValueError(
                "Expected all images to have one size, as `window_size` is None (the size of the images), but "
                f"got {sizes[:4]}. "
                "Pass window_size=, the size that the model was trained on."
            )
        return sizes[0]

    def windows_for(self, size: Size, window: Size) -> tuple[Window, ...]:
        """The windows of an image of `size`, in extraction order (lines 4-9)."""
        if self.scales is not None:
            sizes = short_side_sizes(size, self.scales)
        else:
            sizes = pyramid_sizes(size, window, self.num_scales or 1)
        step = self.step_size or window
        return sliding_windows(tuple(sizes), window, (min(step[0], window[0]), min(step[1], window[1])))

    def whole_image_logits(self, model: nn.Module, images: Sequence[Tensor], window: Size) -> Tensor:
        """Logits `(B, K)` of the whole images, each squashed to the window: every network accepts it."""
        device = model_device(model, images[0].device)
        count = self.batch_size or default_batch_size(device)
        logits = []
        with probe(model):
            for begin in range(0, len(images), count):
                part = [resize(image[None].to(device), window) for image in images[begin : begin + count]]
                logits.append(read_logits(model(torch.cat(part).contiguous(memory_format=torch.channels_last))))
        return torch.cat(logits)

    def _score(
        self, model: nn.Module, images: Sequence[Tensor], windows: Sequence[Sequence[Window]], targets: Tensor
    ) -> tuple[list[Tensor], list[Tensor] | None]:
        """Probability of the class for every patch (lines 10-11); a single-pass method gives its maps with it."""
        single_pass = bool(getattr(self.method, "single_pass", False))
        all_scores: list[Tensor] = []
        all_maps: list[Tensor] = []
        for patches, patch_targets in self._stream(model, images, windows, targets):
            if single_pass:
                explanation = explain(self.method, model, patches, patch_targets)
                if explanation.logits is None:
                    raise ValueError(
                        f"Expected the base method {self.method!r} to return logits, as it says single_pass = True. "
                        "Return Explanation(maps, logits), or set single_pass = False."
                    )
                logits = explanation.logits
                all_maps.append(explanation.maps)
            else:
                logits = read_logits(model(patches))
            if not all_scores:
                check_targets(targets, len(targets), logits.shape[1])
            all_scores.append(class_scores(logits, patch_targets, self.activation))
        if not single_pass:
            torch.clear_autocast_cache()  # weights cast without a graph must not serve the forwards that need one
        counts = [len(w) for w in windows]
        return list(torch.cat(all_scores).split(counts)), list(
            torch.cat(all_maps).split(counts)
        ) if single_pass else None

    def _extract(
        self, model: nn.Module, images: Sequence[Tensor], windows: Sequence[Sequence[Window]], targets: Tensor
    ) -> list[Tensor]:
        """Base maps of the patches that passed the pre-filter (line 13)."""
        stream = self._stream(model, images, windows, targets)
        maps = torch.cat([explain(self.method, model, patches, classes).maps for patches, classes in stream])
        return list(maps.split([len(w) for w in windows]))

    def _stream(
        self, model: nn.Module, images: Sequence[Tensor], windows: Sequence[Sequence[Window]], targets: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The patches of all images in batches of `batch_size`, with the class of each (line 10)."""
        device = targets.device
        capacity = self.batch_size or default_batch_size(device)
        remaining = sum(len(w) for w in windows)
        owners: list[int] = []
        batch: Tensor | None = None
        for number, (image, image_windows) in enumerate(zip(images, windows, strict=True)):
            for patch in iter_patches(image.to(device), image_windows):
                if batch is None:
                    batch = empty_batch(min(capacity, remaining), patch, _size(patch))
                batch[len(owners)] = patch
                owners.append(number)
                if len(owners) == len(batch):
                    yield batch, targets[owners]
                    remaining -= len(batch)
                    owners, batch = [], None

    def _assemble(
        self,
        images: Sequence[Tensor],
        windows: Sequence[Sequence[Window]],
        targets: Tensor,
        scores: list[Tensor],
        kept: list[Tensor],
        patch_maps: Sequence[Tensor],
        keep_patches: bool,
    ) -> SESSResult:
        maps, valid, calibrated = [], [], []
        for image, image_windows, score, keep, piece in zip(images, windows, scores, kept, patch_maps, strict=True):
            part = [image_windows[i] for i in keep.tolist()]
            fused, is_valid = self._fuse(piece, part, score, keep, _size(image))
            maps.append(fused)
            valid.append(is_valid)
            if keep_patches:
                calibrated.append(_calibrated(piece, part, _size(image)))
        one_size = len({_size(image) for image in images}) == 1
        return SESSResult(
            maps=torch.stack(maps) if one_size else maps,
            targets=targets,
            scores=scores,
            windows=[torch.tensor(w, dtype=torch.int32) for w in windows],
            kept=kept,
            valid=torch.stack(valid),
            patch_maps=calibrated if keep_patches else None,
        )

    def _fuse(
        self, maps: Tensor, windows: Sequence[Window], scores: Tensor, kept: Tensor, size: Size
    ) -> tuple[Tensor, Tensor]:
        """Lines 14-16, then min-max and smoothing; and whether the map says anything."""
        weights = _weights(scores)[kept].to(maps.dtype) if self.weight_by_score else None
        fused = fusion.fuse(maps, windows, weights, size, self.pool, self.threshold)
        normalised, valid = fusion.minmax(fused)
        fused = torch.where(valid, normalised if self.minmax else fused, 0)
        return (fusion.smooth(fused) if self.smooth else fused), valid

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"SESS({options})"


def _prefilter(scores: Tensor, ratio: float) -> Tensor:
    """Indices of the best `N - int(N r)` scores, ascending; of equal scores the earlier patch."""
    count = len(scores)
    best = torch.nan_to_num(scores, nan=-1.0).argsort(descending=True, stable=True)
    return best[: count - int(count * ratio)].sort().values


def _weights(scores: Tensor) -> Tensor:
    """Channel-wise weights `p / max(p)` over all patches; zeros where there is no positive, finite score."""
    finite = torch.nan_to_num(scores, nan=0.0)
    highest = finite.max()
    return finite / torch.where(highest > 0, highest, 1)


def _calibrated(maps: Tensor, windows: Sequence[Window], size: Size) -> Tensor:
    canvas = maps.new_zeros((len(windows), *size))
    for number, y, x, piece in fusion.calibrated_pieces(maps, windows, size):
        canvas[number, y : y + piece.shape[0], x : x + piece.shape[1]] = piece
    return canvas


def _size(image: Tensor) -> Size:
    return image.shape[-2], image.shape[-1]


def _pair(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    return tuple(value) if isinstance(value, (list, tuple)) else value
