"""From numbers to colours: the colour map of saliency, overlays, and normalised images made visible again.

Tensors in, uint8 tensors out, each on the device it came from. A wrong type or a NaN, which an image logger would pass
on silently, is an error here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

# The path of the colour map in OKLab: lightness rises in equal steps while hue and chroma follow this arc in the a-b
# plane, from near-black violet over magenta and orange to pale yellow. All steps of such a helix are of equal length,
# which is what "perceptually uniform" means. A random search for the longest such path inside sRGB found these numbers.
_LIGHTNESS = (0.14, 0.96)
_CENTRE = (0.044, 0.027)
_RADIUS = 0.119
_DEGREES = (-110.5, 136.6)

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as Pillow's "L"
_TOLERANCE = 0.02  # of the range [0, 1]: interpolation overshoots a little
_ROUNDING = 1e-3
_SHARE = 0.05  # more pixels than this outside [0, 1] are no accident


def colorize(saliency: Tensor) -> Tensor:
    """Saliency as colours: near-black violet, magenta, orange, pale yellow; the lighter, the more salient.

    The map is perceptually uniform, and lightness, which everybody sees alike, rises linearly with the value: it
    reads without colour vision and printed in grey.

    Args:
        saliency: `(..., H, W)`, floating point, in [0, 1]; values outside are clamped.

    Returns:
        `(..., 3, H, W)` uint8 on the device of `saliency`.

    Raises:
        ValueError: if `saliency` is not floating point, has fewer than two dimensions, no pixels, or is not finite.

    Example:
        >>> colorize(torch.tensor([[0.0, 0.5, 1.0]])).permute(1, 2, 0).tolist()
        [[[3, 1, 43], [193, 59, 73], [244, 250, 156]]]
    """
    check_finite("saliency", saliency, "(..., H, W)", 2)
    index = (saliency.float().clamp(0, 1) * 255).round().long()
    return torch.from_numpy(_table()).to(saliency.device)[index].movedim(-1, -3).contiguous()


def overlay(image: Tensor, saliency: Tensor, opacity: float = 0.65) -> Tensor:
    """Blend a picture with the colours of its saliency so that both stay readable.

    The picture loses its own colours, which would be taken for saliency, and shows through as light and dark.

    Args:
        image: `(3, H, W)` uint8.
        saliency: `(H, W)`, floating point, in [0, 1]; values outside are clamped.
        opacity: share of the saliency's colour, in [0, 1]; at 0.65 outlines are still seen where the saliency is low.

    Returns:
        `(3, H, W)` uint8 on the device of `image`.

    Raises:
        ValueError: if a shape, a type or the opacity is not as above, or the saliency is not finite.

    Example:
        >>> overlay(torch.full((3, 1, 2), 255, dtype=torch.uint8), torch.tensor([[0.0, 1.0]])).flatten(1).T.tolist()
        [[91, 90, 117], [248, 252, 191]]
    """
    check_picture("image", image)
    check_finite("saliency", saliency, "(H, W)", 2, exact=True)
    if saliency.shape != image.shape[-2:]:
        raise ValueError(
            f"Expected argument `saliency` to have the image's size {tuple(image.shape[-2:])}, but got "
            f"{tuple(saliency.shape)}. Resize it, e.g. with torch.nn.functional.interpolate."
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f"Expected argument `opacity` to be in [0, 1], but got {opacity!r}.")
    grey = torch.einsum("chw,c->hw", image.float(), torch.tensor(_GREY, device=image.device))
    colours = colorize(saliency.to(image.device)).float()
    return (grey + opacity * (colours - grey)).round().clamp(0, 255).to(torch.uint8)


def denormalize(images: Tensor, mean: Sequence[float], std: Sequence[float], stretch: bool | None = None) -> Tensor:
    """Undo `(pixel - mean) / std` and show the result: normalised images become pictures.

    Images of one channel become grey. Of 2, or of more than 3 channels the first three are shown (the last one repeated
    where there are fewer), and each image is stretched from its lowest to its highest value: their meaning is unknown.

    Args:
        images: `(..., C, H, W)`, normalised.
        mean: as the images were normalised, on the scale [0, 1]: one value, or one for each channel.
        std: likewise, positive.
        stretch: whether each image is stretched from its lowest to its highest value. None: where the channels ask for
            it, or `normalization_misfit` finds `mean` and `std` wrong, so that the picture is readable even then.

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


def normalization_misfit(images: Tensor | Sequence[Tensor], mean: Sequence[float], std: Sequence[float]) -> str | None:
    """Say what is plainly wrong with `mean` and `std`: that they cannot be what these images were normalised with.

    Pass many images rather than one: a single one may be all bright or all dark. What is only doubtful is not reported.

    Args:
        images: `(..., C, H, W)`, or a list of `(C, H, W)`, as the model gets them.
        mean: on the scale [0, 1]: one value, or one for each channel.
        std: likewise, positive.

    Returns:
        A sentence: what was seen, and which `mean` and `std` to pass. None where nothing is plainly wrong.

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


def check_picture(name: str, picture: Tensor) -> None:
    """Raise a `ValueError` unless `picture` is `(3, H, W)` uint8 with at least one pixel."""
    if not isinstance(picture, Tensor) or picture.dtype != torch.uint8 or picture.ndim != 3 or picture.shape[0] != 3:
        got = f"{tuple(picture.shape)} {picture.dtype}" if isinstance(picture, Tensor) else type(picture).__name__
        raise ValueError(
            f"Expected argument `{name}` to be a picture, (3, H, W) uint8, but got {got}. "
            "`denormalize` makes one of a normalised image."
        )
    if picture.numel() == 0:
        raise ValueError(
            f"Expected argument `{name}` to have at least one pixel, but got shape {tuple(picture.shape)}."
        )


def check_finite(
    name: str, values: Tensor, shape: str, dims: int, *, exact: bool = False, floating: bool = True
) -> None:
    """Raise a `ValueError` unless `values` is a finite tensor with pixels, of at least or exactly `dims` dimensions."""
    if not isinstance(values, Tensor) or values.is_complex() or (floating and not values.is_floating_point()):
        kind, got = ("floating point" if floating else "real"), getattr(values, "dtype", type(values).__name__)
        raise ValueError(
            f"Expected argument `{name}` to be a {kind} tensor {shape}, but got {got}. Convert it with .float()."
        )
    if values.ndim < dims or (exact and values.ndim != dims) or 0 in values.shape[-dims:]:
        raise ValueError(f"Expected argument `{name}` to have shape {shape} and pixels, but got {tuple(values.shape)}.")
    if not torch.isfinite(values).all():
        raise ValueError(
            f"Expected argument `{name}` to be finite, but it holds NaN or infinity. "
            "Find where they come from, or leave this one out: a picture would hide them."
        )


@cache
def _table() -> np.ndarray:
    """The 256 colours, `(256, 3)` uint8 sRGB, lowest first."""
    steps = np.linspace(0, 1, 256)
    angle = np.deg2rad(_DEGREES[0] + (_DEGREES[1] - _DEGREES[0]) * steps)
    lightness = _LIGHTNESS[0] + (_LIGHTNESS[1] - _LIGHTNESS[0]) * steps
    a, b = _CENTRE[0] + _RADIUS * np.cos(angle), _CENTRE[1] + _RADIUS * np.sin(angle)
    # OKLab to linear sRGB, then the sRGB curve: B. Ottosson, "A perceptual color space for image processing", 2020.
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = np.stack(
        [
            4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
        ],
        axis=-1,
    )
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb).astype(np.uint8)


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype in (torch.float32, torch.float64) else values.float()


def _stretched(images: Tensor) -> Tensor:
    """Each image from its lowest value (0) to its highest (1); halved first, as the span of huge values overflows."""
    half = images / 2
    low, high = half.amin((-3, -2, -1), keepdim=True), half.amax((-3, -2, -1), keepdim=True)
    flat = high <= low
    return torch.where(flat, 0.5, (half - low) / torch.where(flat, 1, high - low))


def _per_channel(mean: Sequence[float], std: Sequence[float], like: Tensor) -> tuple[Tensor, Tensor]:
    """`mean` and `std` as `(n, 1, 1)`, checked."""
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
    """All pixels, `(C, n)`."""
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
    """Whether values from `low` to `high` that would be shown as `shown` plainly come from another normalisation."""
    bottom, top = (float(bound) for bound in shown.aminmax())
    if low >= 0 and high > 20:
        return top > 2  # raw pixels, even where nearly all are black
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        # From black over half the range, none negative: normalised, that would be a fog of few and rather bright greys.
        return low < 0.15 and high - low > 0.5 and max(abs(bottom - low), abs(top - high)) > 0.05
    if -1 - _ROUNDING <= low < -0.98 and 0.98 < high <= 1 + _ROUNDING:
        return max(abs(bottom), abs(top - 1)) > 0.05  # black and white of the other usual range, -1..1
    return not _inside(shown)


def _eight_bit(shown: Tensor) -> bool:
    """Whether all values are whole steps of 1/255: only the true `mean` and `std` bring pixels back to these."""
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
