"""RISE (Petsiuk et al., BMVC 2018): the average of random masks, weighted by the probability that each leaves."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sess_lightning.checks import check_choice, check_count
from sess_lightning.logits import ACTIVATIONS
from sess_lightning.pixels import source_pixels
from sess_lightning.saliency.base import BaseMethod, Explanation, wide
from sess_lightning.saliency.masking import forward_count, masked_scores, pair_batches


class RISE(BaseMethod):
    """`sum_i p_c(x * m_i) m_i / (N p)` over random masks `m_i`; masked pixels are 0, the data set's mean colour.

    A black box method: no gradient, any network, `num_masks` forwards an image. Masks are grids of `cells x cells`
    Bernoulli(p) values, enlarged bilinearly to `(cells + 1) ceil(H / cells)` pixels and cropped to the image at a
    random offset. They come from a generator of the method's own, the same for every image, call and device. Maps have
    the image's resolution.

    Args:
        num_masks: `N`; 4000 as in the paper for VGG-16 (8000 for ResNet-50). The error falls with its square root.
        cells: of the grid along each axis; 7 as in the paper.
        probability: `p` that a cell is shown; 0.5 as in the paper.
        activation: `"softmax"`, or `"sigmoid"` for multi-label heads.
        seed: of the masks.
        batch_size: masked images per forward; `None`: as many as are explained at a time, at least 4 of 224 x
            224 pixels or the like.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> RISE(num_masks=20)(net, torch.rand(2, 3, 16, 16), torch.tensor([0, 1])).maps.shape
        torch.Size([2, 16, 16])
    """

    needs_gradient = False

    def __init__(
        self,
        num_masks: int = 4000,
        cells: int = 7,
        probability: float = 0.5,
        activation: str = "softmax",
        seed: int = 0,
        batch_size: int | None = None,
    ) -> None:
        check_count("num_masks", num_masks)
        check_count("cells", cells)
        if not 0 < probability < 1:
            raise ValueError(
                f"Expected argument `probability` to be in (0, 1), the share of cells shown, but got {probability!r}."
            )
        check_choice("activation", activation, ACTIVATIONS)
        check_count("batch_size", batch_size, optional=True)
        self.num_masks, self.cells, self.probability = num_masks, cells, probability
        self.activation, self.seed, self.batch_size = activation, seed, batch_size

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        generator = torch.Generator().manual_seed(self.seed)
        pixels, size = wide(images), (images.shape[-2], images.shape[-1])
        count = forward_count(self.batch_size, images)
        total = pixels.new_zeros((len(images), *size))
        for begin in range(0, self.num_masks, count):
            masks = self.masks(min(count, self.num_masks - begin), size, generator).to(pixels)
            scores = []
            for image, mask in pair_batches(len(images), len(masks), count):
                shown = (pixels[image] * masks[mask, None]).to(images.dtype)
                scores.append(masked_scores(model, shown, targets[image], self.activation))
            weights = torch.cat(scores).reshape(len(images), len(masks)).to(total)
            for mask_weights, mask in zip(weights.T, masks, strict=True):
                total.addcmul_(mask_weights[:, None, None], mask)
        return Explanation(total / (self.num_masks * self.probability))

    def masks(self, count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """The next `count` masks of a CPU generator, `(count, H, W)` in [0, 1], float32.

        Args:
            count: how many.
            size: height and width of the image.
            generator: drawn from; how many masks are drawn at a time changes nothing.
        """
        masks = []
        for _ in range(count):
            grid = (torch.rand(self.cells, self.cells, generator=generator) < self.probability).float()
            for length in size:  # rows, then columns: each pass resizes the first axis and turns the mask
                cell = math.ceil(length / self.cells)
                offset = int(torch.randint(cell, (1,), generator=generator))
                grid = _enlarged(grid, (self.cells + 1) * cell, offset, length).T
            masks.append(grid)
        return torch.stack(masks)

    def __repr__(self) -> str:
        return f"RISE(num_masks={self.num_masks}, cells={self.cells}, probability={self.probability}, seed={self.seed})"


def _enlarged(grid: Tensor, enlarged: int, offset: int, length: int) -> Tensor:
    """Rows `offset .. offset + length` of the grid enlarged bilinearly, mirrored at its border."""
    cells = len(grid)
    low, fraction = source_pixels(torch.arange(offset, offset + length), enlarged, cells, clamped=False)
    first, second = (_mirrored(index, cells) for index in (low, low + 1))
    return torch.lerp(grid[first], grid[second], fraction.to(grid.dtype)[:, None])


def _mirrored(index: Tensor, length: int) -> Tensor:
    """Indices just outside `0 .. length - 1` mirrored about the first and the last one."""
    if length == 1:
        return torch.zeros_like(index)
    index = index.abs()
    return torch.where(index >= length, 2 * (length - 1) - index, index)
