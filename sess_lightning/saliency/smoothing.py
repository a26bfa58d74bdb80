"""Methods that average over noisy copies of the image: SmoothGrad and Smooth Grad-CAM++."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sess_lightning.checks import check_count
from sess_lightning.layers import Reshape
from sess_lightning.saliency.base import BaseMethod, Explanation, wide
from sess_lightning.saliency.cam import plus_plus
from sess_lightning.saliency.gradient import grey, input_gradient
from sess_lightning.saliency.masking import forward_count, pair_batches
from sess_lightning.saliency.target_layer import LayerMethod


class SmoothGrad(BaseMethod):
    """The input gradient, averaged over noisy copies of the image, in grey as for `InputGradient`.

    Source: Smilkov et al., "SmoothGrad", 2017. The noise is Gaussian, its deviation a share of each image's own range,
    and comes from a generator of the method's own: the same for every image, call and device. `num_samples` forwards
    and backwards an image.

    Args:
        num_samples: copies; 25 as in PAIR's library (the paper sees little change above 50).
        spread: standard deviation of the noise over `max - min` of the image; 0.15, in the paper's range .1 to .2.
        seed: of the noise.
        batch_size: copies per forward; `None`: as many as are explained at a time, at least 4 of 224 x 224 pixels or
            the like.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
        >>> SmoothGrad(num_samples=4)(net, torch.rand(2, 3, 8, 8), torch.tensor([0, 1])).maps.shape
        torch.Size([2, 8, 8])
    """

    def __init__(
        self, num_samples: int = 25, spread: float = 0.15, seed: int = 0, batch_size: int | None = None
    ) -> None:
        _check(num_samples, spread, batch_size)
        self.num_samples, self.spread, self.seed, self.batch_size = num_samples, spread, seed, batch_size

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        total = torch.zeros_like(wide(images))
        for image, copies in _noisy_copies(images, self.num_samples, self.spread, self.seed, self.batch_size):
            gradient, _ = input_gradient(model, copies, targets[image])
            total.index_add_(0, image, wide(gradient))
        return Explanation(grey(total / self.num_samples))

    def __repr__(self) -> str:
        return f"SmoothGrad(num_samples={self.num_samples}, spread={self.spread}, seed={self.seed})"


class SmoothGradCAMPlusPlus(LayerMethod):
    """Grad-CAM++ whose three derivatives are each averaged over noisy copies of the image.

    Source: Omeiza et al., "Smooth Grad-CAM++", 2019: the averages of `g`, `g^2` and `g^3` take their places in the
    formula of Grad-CAM++, with the activations of the clean image. Without noise it is Grad-CAM++. Noise as for
    `SmoothGrad`. `num_samples + 1` forwards and head-only backwards an image.

    Args:
        target_layer: dotted name or module; `None` finds the last spatial map on the first batch.
        num_samples: copies; 20, as in the release of SESS.
        spread: standard deviation of the noise over `max - min` of the image.
        seed: of the noise.
        reshape: function from the layer's output to `(N, C, h, w)`, as for `GradCAM`.
        batch_size: copies per forward, as for `SmoothGrad`.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> SmoothGradCAMPlusPlus("1")(net, torch.rand(2, 3, 8, 8), torch.tensor([0, 1])).maps.shape
        torch.Size([2, 6, 6])
    """

    def __init__(
        self,
        target_layer: str | nn.Module | None = None,
        num_samples: int = 20,
        spread: float = 0.15,
        seed: int = 0,
        reshape: Reshape | None = None,
        batch_size: int | None = None,
    ) -> None:
        _check(num_samples, spread, batch_size)
        super().__init__(target_layer, reshape)
        self.num_samples, self.spread, self.seed, self.batch_size = num_samples, spread, seed, batch_size

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        activation, logits = self._layer.observe(model, images.clone())
        first, second, third = (torch.zeros_like(activation) for _ in range(3))
        for image, copies in _noisy_copies(images, self.num_samples, self.spread, self.seed, self.batch_size):
            gradient = self._layer.read(model, copies, targets[image]).gradient
            for total, power in ((first, gradient), (second, gradient**2), (third, gradient**3)):
                total.index_add_(0, image, power)
        maps = plus_plus(activation, *(total / self.num_samples for total in (first, second, third)))
        return Explanation(maps, logits)

    def __repr__(self) -> str:
        return (
            f"SmoothGradCAMPlusPlus(target_layer={self.target_layer!r}, num_samples={self.num_samples}, "
            f"spread={self.spread}, seed={self.seed})"
        )


def _noisy_copies(
    images: Tensor, num_samples: int, spread: float, seed: int, batch_size: int | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of noisy copies `(n, C, H, W)` of all images, and the image `(n,)` that each is a copy of."""
    generator = torch.Generator().manual_seed(seed)
    pixels = wide(images)
    flat = pixels.flatten(1)
    deviation = (spread * (flat.amax(1) - flat.amin(1)))[:, None, None, None]
    noise: dict[int, Tensor] = {}  # of the copies in this batch; drawn in order, so that batches change nothing
    for sample, image in pair_batches(num_samples, len(images), forward_count(batch_size, images)):
        numbers = sample.tolist()
        for number in range(max(noise, default=-1) + 1, numbers[-1] + 1):
            noise[number] = torch.randn(images.shape[1:], generator=generator).to(pixels)
        noise = {number: noise[number] for number in set(numbers)}
        drawn = torch.stack([noise[number] for number in numbers])
        image = image.to(images.device)
        yield image, (pixels[image] + deviation[image] * drawn).to(images.dtype)


def _check(num_samples: int, spread: float, batch_size: int | None) -> None:
    check_count("num_samples", num_samples)
    check_count("batch_size", batch_size, optional=True)
    if not spread >= 0:
        raise ValueError(f"Expected argument `spread` to be 0 or more, a share of the image's range, but got {spread}.")
