"""Undo the normalisation of images for drawing, and detect a wrong `mean` or `std`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sess_lightning.render.picture import check_finite

_TOLERANCE = 0.02  # beyond [0, 1]: interpolation overshoots a little
_ROUNDING = 1e-3
_SHARE = 0.05  # of pixels that may lie outside [0, 1] by accident


def denormalize(images: Tensor, mean: Sequence[float], std: Sequence[float], stretch: bool | None = None) -> Tensor:
    """Undo the normalisation `(pixel - mean) / std`, so that images can be shown as pictures.

    Images of one channel become grey. With 2 or more than 3 channels, whose meaning is unknown, the first three are
    shown (the last one repeated if there are fewer), and each image is stretched from its lowest to its highest value.

    Args:
        images: `(..., C, H, W)`, normalised.
        mean: mean that the images were normalised with, on the scale [0, 1]: one value, or one for each channel.
        std: standard deviation that they were normalised with: positive, as many values as `mean`.
        stretch: whether each image is stretched from its lowest to its highest value. None: if the number of channels
            requires it, or if `normalization_misfit` finds `mean` and `std` wrong.

    Returns:
        `(..., 3, H, W)` uint8 on the device of `images`. A flat image that is stretched becomes mid-grey.

    Raises:
        ValueError: if a shape, `mean` or `std` is not as above, or the images are not finite.

    Example:
        >>> denormalize(torch.tensor([-2.0, 0.0, 2.0]).reshape(1, 1, 3), mean=(0.5,), std=(0.25,))[0].tolist()
        [[0, 128, 255]]
    """
    check_finite("images", images, "(..., C, H, W)", 3, floating=False)
    channels = images.shape[-3]
    if stretch is None:
        stretch = channels not in (1, 3) or normalization_misfit(images, mean, std) is not None
    scale = _per_channel(mean, std, images)
    images = _at_least_float32(images)
    shown = torch.tensor([min(i, channels - 1) for i in range(3)], device=images.device)
    if stretch:
        pictures = _stretched(images.index_select(-3, shown))
    elif len(mean) not in (1, channels):
        raise ValueError(
            f"Expected argument `mean` to have 1 or {channels} values, one per channel, but got {len(mean)}."
        )
    else:
        pictures = (images * scale[1] + scale[0]).index_select(-3, shown)
    return (pictures * 255).round().clamp(0, 255).to(torch.uint8)


def drawn_channels(
    images: Sequence[Tensor], mean: Sequence[float], std: Sequence[float], bands: Sequence[int] | None
) -> tuple[list[Tensor], Sequence[float], Sequence[float]]:
    """The channels of images that are drawn, and the mean and std that belong to them.

    Args:
        images: a list of `(C, H, W)`, normalised.
        mean: one value, or one for each of the `C` channels or of those drawn.
        std: likewise.
        bands: numbers of channels, counted from 0; `None` takes all.

    Example:
        >>> images, mean, std = drawn_channels([torch.rand(4, 8, 8)], (0.1, 0.2, 0.3, 0.4), (1, 1, 1, 2), (3, 2, 1))
        >>> tuple(images[0].shape), mean, std
        ((3, 8, 8), [0.4, 0.3, 0.2], [2, 1, 1])
    """
    if bands is None:
        return list(images), mean, std
    shown = [image[list(bands)] for image in images]
    if images and len(mean) == len(std) == images[0].shape[0] > 1:
        return shown, [mean[band] for band in bands], [std[band] for band in bands]
    return shown, mean, std


def normalization_misfit(images: Tensor | Sequence[Tensor], mean: Sequence[float], std: Sequence[float]) -> str | None:
    """Check whether these images can have been normalised with `mean` and `std`.

    Pass many images rather than one: a single one may be all bright or all dark. Doubtful cases are not reported.

    Args:
        images: `(..., C, H, W)`, or a list of `(C, H, W)`, normalised as for the model.
        mean: on the scale [0, 1]: one value, or one for each channel.
        std: positive, as many values as `mean`.

    Returns:
        A sentence that says what is wrong, and which `mean` and `std` to pass; None if nothing is plainly wrong.

    Raises:
        ValueError: if `mean` and `std` are empty, not finite, of different lengths, or `std` is not positive; if the
            images have no pixels, are not finite, or differ in channels.

    Example:
        >>> normalization_misfit(torch.linspace(0, 1, 12).reshape(1, 3, 2, 2), mean=(0.5,), std=(0.5,))
        'The images hold values from 0 to 1, which mean=(0.5,), std=(0.5,) cannot have made: pass mean=(0,), std=(1,).'
    """
    pixels = _by_channel(images)
    if pixels.numel() == 0:
        return None
    mean, std = tuple(mean), tuple(std)
    low, high = (float(bound) for bound in pixels.aminmax())
    given = f"mean={_brief(mean)}, std={_brief(std)}"
    seen = f"The images hold values from {low:.4g} to {high:.4g}"
    scale = _per_channel(mean, std, pixels)
    if len(mean) not in (1, len(pixels)):
        count = f"{len(pixels)} channel{'s' if len(pixels) > 1 else ''}, but mean and std have {len(mean)} values"
        return f"The images have {count}: pass {_advice(low, high, len(pixels))}."
    shown = pixels * scale[1].flatten(1) + scale[0].flatten(1)
    if max(*mean, *std) > 1 and high <= 255 and _inside(shown / 255) and not _inside(shown):
        return f"{given} are on the scale 0..255: divide both by 255, as pictures are shown on the scale 0..1."
    if _foreign(low, high, shown) and not _eight_bit(shown):
        return f"{seen}, which {given} cannot have made: pass {_advice(low, high, len(pixels))}."
    return None


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _stretched(images: Tensor) -> Tensor:
    """Scale each image from its lowest value (0) to its highest (1); halved first, since huge ranges overflow."""
    half = images / 2
    low, high = half.amin((-3, -2, -1), keepdim=True), half.amax((-3, -2, -1), keepdim=True)
    flat = high <= low
    return torch.where(flat, 0.5, (half - low) / torch.where(flat, 1, high - low))


def _per_channel(mean: Sequence[float], std: Sequence[float], like: Tensor) -> tuple[Tensor, Tensor]:
    """Check `mean` and `std` and return them as `(n, 1, 1)`."""
    if not len(mean) or len(mean) != len(std):
        raise ValueError(
            "Expected arguments `mean` and `std` to have one value each, or one for each channel, but got "
            f"{len(mean)} and {len(std)}."
        )
    if not all(map(math.isfinite, [*mean, *std])) or min(std) <= 0:
        raise ValueError(f"Expected `mean` finite and `std` positive, but got mean={tuple(mean)} and std={tuple(std)}.")
    dtype = like.dtype if like.dtype == torch.float64 else torch.float32
    both = torch.tensor([list(mean), list(std)], dtype=dtype, device=like.device).reshape(2, -1, 1, 1)
    return both[0], both[1]


def _by_channel(images: Tensor | Sequence[Tensor]) -> Tensor:
    """The pixels of all images, `(C, n)`."""
    several = [images] if isinstance(images, Tensor) else list(images)
    for one in several:
        check_finite("images", one, "(..., C, H, W)", 3, floating=False)
    if len({one.shape[-3] for one in several}) > 1:
        raise ValueError(
            f"Expected all `images` to have as many channels, but got {[one.shape[-3] for one in several]}."
        )
    return (
        torch.cat([_at_least_float32(one).movedim(-3, 0).flatten(1) for one in several], 1)
        if several
        else torch.empty(0)
    )


def _inside(shown: Tensor) -> bool:
    """Whether nearly all values are in [0, 1]."""
    outside = (shown < -_TOLERANCE) | (shown > 1 + _TOLERANCE)
    return float(outside.float().mean()) <= _SHARE


def _foreign(low: float, high: float, shown: Tensor) -> bool:
    """Whether values from `low` to `high`, which become `shown`, plainly come from another normalisation."""
    bottom, top = (float(bound) for bound in shown.aminmax())
    if low >= 0 and high > 20:
        return top > 2  # raw pixels, even where nearly all are black
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        # Not negative, and from near 0 over half the range: had they been normalised, the image would be pale and flat.
        return low < 0.15 and high - low > 0.5 and max(abs(bottom - low), abs(top - high)) > 0.05
    if -1 - _ROUNDING <= low < -0.98 and 0.98 < high <= 1 + _ROUNDING:
        return max(abs(bottom), abs(top - 1)) > 0.05  # exactly from -1 to 1, the other usual range
    return not _inside(shown)


def _eight_bit(shown: Tensor) -> bool:
    """Whether all values are multiples of 1/255, which only the true `mean` and `std` restore."""
    levels = shown * 255
    return bool((levels - levels.round()).abs().max() < 0.05) and _inside(shown)


def _advice(low: float, high: float, channels: int) -> str:
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        return "mean=(0,), std=(1,)"
    if low >= 0 and 20 < high <= 255:
        return "mean=(0,), std=(0.00392,), which is 1/255"
    if low >= -1 - _ROUNDING and high <= 1 + _ROUNDING:
        return "mean=(0.5,), std=(0.5,) for values in -1..1, else those of your own transforms"
    return f"the mean and std of your own transforms, 1 {f'or {channels} values' if channels > 1 else 'value'} each"


def _brief(values: Sequence[float]) -> str:
    return f"({', '.join(f'{value:.4g}' for value in values)}{',' if len(values) == 1 else ''})"
