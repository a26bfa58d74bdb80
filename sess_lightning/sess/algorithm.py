"""SESS: Saliency Enhancing with Scaling and Sliding (Tursun et al., ECCV 2022), Algorithm 1.

The lines of Algorithm 1 and where each is; comments name them by number:

| lines | step | file |
|---|---|---|
| 1-2 | arguments and result | `algorithm.py`, `options.py`, `result.py` |
| 3-6 | sizes of the scaled images | `windows.py`: `pyramid_sizes` |
| 7-9 | windows, cut into patches | `windows.py`: `sliding_windows`, `iter_patches` |
| 10-11 | batches, score of the class for each patch | `patches.py`: `Patches.scores` |
| 12 | pre-filter | `algorithm.py`: `_prefilter` |
| 13 | maps of the patches by the base method | `patches.py`: `Patches.explanations` |
| 14 | calibration: each map in its place | `fusion.py`: `fuse` |
| 15 | channel-wise weights | `algorithm.py`: `_weights`; applied in `fusion.py` |
| 16 | average of the values that are not zero (Eq. 2), then min-max and smoothing | `fusion.py`: `fuse`, `smooth` |

Patches of all images go through the model in one stream of `batch_size`, built lazily, so memory does not grow with the
number of scales or images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sess_lightning.checks import check_choice, check_count, check_images, check_share
from sess_lightning.forwarding import model_logits
from sess_lightning.logits import ACTIVATIONS, check_targets, predicted_classes
from sess_lightning.pixels import Size, minmax, resize
from sess_lightning.probing import default_batch_size, model_device, probe
from sess_lightning.saliency.base import Method
from sess_lightning.saliency.registry import resolve_method
from sess_lightning.sess import fusion
from sess_lightning.sess.options import check_pair, check_pyramid, check_scores, check_step
from sess_lightning.sess.patches import Patches, Scores
from sess_lightning.sess.result import SESSResult
from sess_lightning.sess.windows import Window, pyramid_sizes, relative_sizes, short_side_sizes, sliding_windows

_UNDERFLOW = 1e-30  # a probability below that has lost digits, or is about to


class SESS:
    """Saliency maps of a classifier, sharpened by scaling and sliding.

    Any base method, any classifier, images of any size.

    Args:
        method: the base method: a name (`"gradcam"`, see `sess_lightning.saliency.method_names()`), a method object, a
            dotted path, or any callable `(model, images, targets) -> maps`.
        num_scales: scales of the pyramid, `n` in the paper. The image is scaled to cover the window times `1 + 2/7 i`.
            12, the released default; fewer cost less and blur more.
        scales: the scales themselves instead; excludes `num_scales`. Ints are short sides in pixels, e.g.
            `[352, 544, 736]`; floats are multiples of the window, e.g. `[1.0, 1.5, 2.5]`, and so fit every window. When
            time counts, take those three short sides for a window of 224: a quarter of the patches of 12 scales, and
            pointing as accurate.
        window_size: what the network sees at a time, in pixels: an int, `(h, w)`, or `None` for the size of the images
            given. 224, the training size of most ImageNet models.
        step_size: distance of two windows, an int or `(vertical, horizontal)`; `None` means the window: no overlap but
            at the border. Smaller is finer and dearer (Fig. 10).
        prefilter_ratio: `r` in [0, 1): of `N` patches the `N - int(N r)` with the best scores are explained. 0 by
            default: with Grad-CAM, maps come out of the scoring pass itself, so filtering would save nothing. For
            methods that need passes of their own, 0.9 to 0.99 saves most of the cost.
        threshold: theta of Eq. 2, applied to the weighted map. 0, as in the paper.
        pool: `"mean"` (Eq. 2), `"plain_mean"` (divides by the number of patches: Fig. 9) or `"max"`.
        weight_by_score: weigh every patch by `p / max(p)` over all patches of the image (Fig. 7 switches this off).
        minmax: min-max after fusion, before smoothing, as the paper's text says (the released code does not).
        smooth: Gaussian of 11 pixels, sigma 5.
        activation: `"softmax"`, or `"sigmoid"` for multi-label heads.
        batch_size: patches per forward; bounds the memory. `None`: on a CPU 4, more where the window is smaller than
            224; 64 on an accelerator.

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
        scales: Sequence[int] | Sequence[float] | None = None,
        window_size: int | tuple[int, int] | None = 224,
        step_size: int | tuple[int, int] | None = None,
        prefilter_ratio: float = 0.0,
        threshold: float = 0.0,
        pool: str = "mean",
        weight_by_score: bool = True,
        minmax: bool = True,
        smooth: bool = True,
        activation: str = "softmax",
        batch_size: int | None = None,
    ) -> None:
        self.method: Method = resolve_method(method, activation)
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
        self.batch_size = batch_size
        self._check()

    def __call__(
        self,
        model: nn.Module,
        images: Tensor | Sequence[Tensor],
        targets: Tensor | None = None,
        *,
        keep_patches: bool = False,
        scores: Sequence[Tensor] | None = None,
    ) -> SESSResult:
        """Explain one class for each image.

        Args:
            model: any classifier; its modes, gradients, hooks and random states are as before when this returns.
            images: `(B, C, H, W)`, or a list of `(C, H, W)` of any sizes, normalised as the model expects.
            targets: `(B,)` long, the classes to explain; `None` explains the class predicted for the whole image,
                squashed to the window.
            keep_patches: keep the calibrated map of every patch, which takes `K x H x W` floats an image.
            scores: of the patches, where they are known: `SESSResult.scores` of another method for the same images,
                classes and windows. Saves the scoring pass.

        Raises:
            TypeError, ValueError: if images, targets or scores are unfit; says which and why.
        """
        images = check_images(images)
        window = self.window_for(images)
        with probe(model):
            device = model_device(model, images[0].device)
            if targets is None:
                targets = predicted_classes(self.whole_image_logits(model, images, window))
            targets = check_targets(targets, len(images)).to(device, copy=True)
            windows = [self.windows_for(_size(image), window) for image in images]
            check_scores(scores, [len(w) for w in windows])
            patches = Patches(model, images, windows, targets, self.activation, self.batch_size)
            one_size = len({_size(image) for image in images}) == 1
            maps: list[Tensor] = []
            stacked: Tensor | None = None
            fused: list[_Fused] = []
            for part, image_windows, image in zip(self._explained(patches, scores), windows, images, strict=True):
                saliency, rest = self._fuse(part, image_windows, _size(image), keep_patches)
                if one_size:  # in its place at once: torch.stack would hold all maps twice
                    stacked = saliency.new_empty((len(images), *saliency.shape)) if stacked is None else stacked
                    stacked[len(fused)] = saliency
                else:
                    maps.append(saliency)
                fused.append(rest)
        return SESSResult(
            maps=maps if stacked is None else stacked,
            targets=targets,
            scores=[one.scores for one in fused],
            windows=[torch.tensor(w, dtype=torch.int32) for w in windows],
            kept=[one.kept for one in fused],
            valid=torch.stack([one.valid for one in fused]),
            patch_maps=[one.patch_maps for one in fused if one.patch_maps is not None] if keep_patches else None,
            unsmoothed=[one.unsmoothed for one in fused if one.unsmoothed is not None] if keep_patches else None,
        )

    def _check(self) -> None:
        check_pair("window_size", self.window_size)
        check_pair("step_size", self.step_size)
        check_step(self.step_size, self.window_size)
        check_pyramid(self.num_scales, self.scales, self.window_size)
        advice = " It is the share of patches to leave out: 0.99 keeps the best 1 %, at 1 none would be left."
        check_share("prefilter_ratio", self.prefilter_ratio, advice)
        check_share("threshold", self.threshold)
        check_choice("pool", self.pool, fusion.POOLS)
        check_choice("activation", self.activation, ACTIVATIONS)
        check_count("batch_size", self.batch_size, optional=True)

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
                f"got {sizes[:4]}. Pass window_size=, the size that the model was trained on."
            )
        return sizes[0]

    def windows_for(self, size: Size, window: Size) -> tuple[Window, ...]:
        """The windows of an image of `size`, in extraction order (lines 4-9)."""
        if self.scales is None:
            sizes = pyramid_sizes(size, window, self.num_scales or 1)
        elif isinstance(self.scales[0], float):
            sizes = relative_sizes(size, window, self.scales)
        else:
            sizes = short_side_sizes(size, [int(side) for side in self.scales])
        step = self.step_size or window
        return sliding_windows(tuple(sizes), window, (min(step[0], window[0]), min(step[1], window[1])))

    def whole_image_logits(self, model: nn.Module, images: Sequence[Tensor], window: Size) -> Tensor:
        """Logits `(B, K)` of the whole images, each squashed to the window: every network accepts it."""
        device = model_device(model, images[0].device)
        count = self.batch_size or default_batch_size(device, window)
        logits = []
        with probe(model):
            for begin in range(0, len(images), count):
                part = [resize(image[None].to(device), window) for image in images[begin : begin + count]]
                logits.append(model_logits(model, torch.cat(part)))
        return torch.cat(logits)

    def fused(self, windows: Sequence[Window], scores: Tensor, maps: Tensor, size: Size) -> tuple[Tensor, Tensor]:
        """The map of one image from patches that are explained already: lines 12 and 14-16, without the model.

        Args:
            windows: those of `windows_for(size, window)`.
            scores: `(P,)` probability of the class for each window.
            maps: `(P, h, w)` of the base method, for each window.
            size: height and width of the image.

        Returns:
            The map `(H, W)`, and `()` bool: False where it is constant or not finite.
        """
        kept = _prefilter(scores, self.prefilter_ratio).cpu()
        part = _Explained(scores, scores, kept, maps[kept.to(maps.device)])
        saliency, rest = self._fuse(part, windows, size, False)
        return saliency, rest.valid

    def _explained(self, patches: Patches, known: Sequence[Tensor] | None) -> Iterator[_Explained]:
        """Yields, image by image, the scores of its patches and the maps of those that pass the pre-filter."""
        if known is None and (getattr(self.method, "single_pass", False) or self.prefilter_ratio == 0):
            # Every patch is explained, or that costs no more than its score: one pass gives both.
            for number, (maps, scores) in enumerate(patches.explanations(self.method)):
                if scores is None:
                    scores = replace(patches, **_only(patches, number)).scores()[0]
                graded = _graded(scores)
                kept = _prefilter(graded, self.prefilter_ratio).cpu()  # line 12
                kept_maps = maps if len(kept) == len(maps) else maps[kept.to(maps.device)]
                yield _Explained(scores.probability, graded, kept, kept_maps)
            return
        if known is None:
            found = patches.scores()
            all_scores, all_graded = [one.probability for one in found], [_graded(one) for one in found]
        else:
            all_scores = all_graded = [one.to(patches.targets.device) for one in known]
        on_host = torch.cat(all_graded).cpu().split([len(one) for one in all_scores])
        all_kept = [_prefilter(one, self.prefilter_ratio) for one in on_host]
        kept_windows = [[w[i] for i in k.tolist()] for w, k in zip(patches.windows, all_kept, strict=True)]
        explanations = replace(patches, windows=kept_windows).explanations(self.method)
        for probability, graded, kept, (maps, _) in zip(all_scores, all_graded, all_kept, explanations, strict=True):
            yield _Explained(probability, graded, kept, maps)

    def _fuse(
        self, part: _Explained, windows: Sequence[Window], size: Size, keep_patches: bool
    ) -> tuple[Tensor, _Fused]:
        """Lines 14-16, then min-max and smoothing: the map `(H, W)`, and what else is known."""
        everything = len(part.kept) == len(windows)
        kept_windows = windows if everything else [windows[i] for i in part.kept.tolist()]
        weights = None
        if self.weight_by_score:
            weights = _weights(part.graded).to(part.maps.dtype)
            weights = weights if everything else weights[part.kept.to(weights.device)]
        fused = fusion.fuse(part.maps, kept_windows, weights, size, self.pool, self.threshold)
        normalised, valid = minmax(fused)
        fused = torch.where(valid, normalised if self.minmax else fused, 0)
        return fusion.smooth(fused) if self.smooth else fused, _Fused(
            valid=valid,
            scores=part.scores,
            kept=part.kept,
            patch_maps=fusion.calibrated(part.maps, kept_windows, size) if keep_patches else None,
            unsmoothed=fused if keep_patches else None,
        )

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"SESS({options})"


class _Explained(NamedTuple):
    """What the model said about the patches of one image."""

    scores: Tensor  # (P,) of all patches
    graded: Tensor  # (P,) the same or a multiple, as `_graded` says: what they are ranked and weighted by
    kept: Tensor  # (K,) long: those that are explained
    maps: Tensor  # (K, h, w)


class _Fused(NamedTuple):
    """What becomes of it, besides the map."""

    valid: Tensor  # () bool
    scores: Tensor
    kept: Tensor
    patch_maps: Tensor | None
    unsmoothed: Tensor | None


def _only(patches: Patches, number: int) -> dict[str, Any]:
    one = slice(number, number + 1)
    return {"images": patches.images[one], "windows": patches.windows[one], "targets": patches.targets[one]}


def _graded(scores: Scores) -> Tensor:
    """The probabilities `(P,)`; where all of them round to 0, a multiple of them that does not.

    Logits of +-200 leave no patch a probability that float32 can hold, yet one patch says more than another.
    """
    highest = scores.probability.nan_to_num(0.0).max()
    relative = (scores.logarithm - scores.logarithm.nan_to_num(-torch.inf).max()).exp()
    return torch.where(highest > _UNDERFLOW, scores.probability, relative)


def _prefilter(scores: Tensor, ratio: float) -> Tensor:
    """Indices of the best `N - int(N r)` scores, ascending; of equal scores the earlier patch."""
    count = len(scores)
    if int(count * ratio) == 0:
        return torch.arange(count)
    best = torch.nan_to_num(scores, nan=-1.0).argsort(descending=True, stable=True)
    return best[: count - int(count * ratio)].sort().values


def _weights(scores: Tensor) -> Tensor:
    """Channel-wise weights `p / max(p)` over all patches; zeros where there is no positive, finite score."""
    finite = torch.nan_to_num(scores, nan=0.0)
    highest = finite.max()
    return finite / torch.where(highest > 0, highest, 1)


def _size(image: Tensor) -> Size:
    return image.shape[-2], image.shape[-1]


def _pair(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    return tuple(value) if isinstance(value, (list, tuple)) else value
