"""Connected components of a map at many thresholds, in one pass from the highest threshold down."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class ComponentBoxes:
    """Union-find over the pixels of an image that keeps the box and the area of every component.

    Args:
        height: height of the image in pixels.
        width: width of the image in pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        pixels = torch.arange(height * width)
        rows, columns = pixels // width, pixels % width
        self.parent = pixels
        self.first = torch.stack([columns, rows], 1)  # (HW, 2): left and top pixel of each root's component
        self.last = self.first + 1  # (HW, 2): right and bottom pixel + 1
        self.area = torch.ones_like(pixels)

    def roots(self, pixels: Tensor) -> Tensor:
        """Returns the root of each pixel's component, and shortens the paths to it."""
        found = self.parent[pixels]
        # Go up two steps at a time until nothing changes; every pixel on the way is linked to its grandparent.
        while not torch.equal(above := self.parent[found], found):
            higher = self.parent[above]
            self.parent[found] = higher
            found = higher
        self.parent[pixels] = found  # the next search from these pixels takes one step
        return found

    def join(self, a: Tensor, b: Tensor) -> None:
        """Join the components of pixels `a` and `b`, `(E,)` each; the smaller root stays, so no cycle can arise."""
        joined = []
        # Where several pairs name the same root, one round links it to the smallest of its partners only: repeat with
        # the pairs whose roots still differ.
        while len(a):
            a, b = self.roots(a), self.roots(b)
            apart = a != b
            a, b = a[apart], b[apart]
            higher, lower = torch.maximum(a, b), torch.minimum(a, b)
            self.parent.scatter_reduce_(0, higher, lower, "amin")
            joined.append(higher.unique())
        if not joined:
            return
        # Every former root is listed once, as it is no root afterwards. Its box and area go to its new root.
        children = torch.cat(joined)
        roots = self.roots(children)
        pairs = roots[:, None].expand(-1, 2)
        self.first.scatter_reduce_(0, pairs, self.first[children], "amin")
        self.last.scatter_reduce_(0, pairs, self.last[children], "amax")
        self.area.scatter_add_(0, roots, self.area[children])


def boxes_by_level(levels: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Find the 8-connected components of `levels >= t` for `t` from the highest level down to 0.

    Args:
        levels: `(H, W)` long on the CPU; pixels below 0 belong to no component.

    Yields:
        `t`, the boxes `(R, 4)` of the components (first column and row, last column and row + 1), and their areas
        `(R,)`.
    """
    height, width = levels.shape
    components = ComponentBoxes(height, width)
    flat = levels.flatten()
    a, b = _neighbours(height, width)
    heights = torch.minimum(flat[a], flat[b])  # the highest level at which both pixels of a pair are active
    pixels, pixel_ends = _by_level(flat)
    edges, edge_ends = _by_level(heights)
    before = 0  # edges joined so far
    for level in range(len(pixel_ends) - 1, -1, -1):
        if level < len(edge_ends):
            new = edges[before : edge_ends[level]]
            components.join(a[new], b[new])
            before = edge_ends[level]
        active = pixels[: pixel_ends[level]]
        roots = active[components.parent[active] == active]  # a root is its own parent
        yield level, torch.cat([components.first[roots], components.last[roots]], 1), components.area[roots]


def _by_level(levels: Tensor) -> tuple[Tensor, list[int]]:
    """Returns indices by descending level, and for each level from 0 the number of entries at or above it."""
    order = levels.argsort(descending=True)
    counts = torch.bincount(levels[levels >= 0])
    return order, counts.flip(0).cumsum(0).flip(0).tolist()


def _neighbours(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Returns every pair of pixels that share an edge or a corner, once, as two lists of indices."""
    grid = torch.arange(height * width).view(height, width)
    pairs = (
        (grid[:, :-1], grid[:, 1:]),
        (grid[:-1], grid[1:]),
        (grid[:-1, :-1], grid[1:, 1:]),
        (grid[:-1, 1:], grid[1:, :-1]),
    )
    return torch.cat([p.flatten() for p, _ in pairs]), torch.cat([q.flatten() for _, q in pairs])
