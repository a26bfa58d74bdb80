"""Tiny networks of tokens, one for each way in which well-known ones differ. Names of classes say nothing."""

import torch
from torch import nn


class Mixing(nn.Module):
    """Self-attention by hand: the softmaxed matrix is a module's output."""

    def __init__(self, dim):
        super().__init__()
        self.qkv, self.weights, self.out = nn.Linear(dim, 3 * dim), nn.Softmax(-1), nn.Linear(dim, dim)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, -1)).permute(2, 0, 3, 1, 4)
        mixed = self.weights(q @ k.transpose(-1, -2)) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


class RootMeanSquare(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return self.gain * x / x.square().mean(-1, keepdim=True).add(1e-6).sqrt()


class Block(nn.Module):
    def __init__(self, dim, norm=nn.LayerNorm):
        super().__init__()
        self.first, self.mix, self.second = norm(dim), Mixing(dim), norm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * dim, dim))

    def forward(self, x):
        x = x + self.mix(self.first(x))
        return x + self.mlp(self.second(x))


class BlockAttention(Block):
    """A block under the name of a part."""


class PostNorm(Block):
    def forward(self, x):
        x = self.first(x + self.mix(x))
        return self.second(x + self.mlp(x))


class SequenceFirst(nn.Module):
    """Tokens `(T, N, C)`, as nn.MultiheadAttention has them."""

    def __init__(self, dim, norm=nn.LayerNorm):
        super().__init__()
        self.first, self.mix, self.second = norm(dim), nn.MultiheadAttention(dim, 2), norm(dim)
        self.mlp = nn.Linear(dim, dim)

    def forward(self, x):
        y = self.first(x)
        x = x + self.mix(y, y, y)[0]
        return x + self.mlp(self.second(x))


class Mixer(nn.Module):
    """Mixes 16 tokens by a linear layer, no attention."""

    def __init__(self, dim, norm=nn.LayerNorm):
        super().__init__()
        self.first, self.across, self.second, self.mlp = norm(dim), nn.Linear(16, 16), norm(dim), nn.Linear(dim, dim)

    def forward(self, x):
        x = x + self.across(self.first(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp(self.second(x)).relu()


class Pooling(nn.Module):
    """A learned query that attends to all tokens: (N, T, C) to (N, C)."""

    def __init__(self, dim):
        super().__init__()
        self.query, self.kv = nn.Parameter(torch.randn(1, 1, dim)), nn.Linear(dim, 2 * dim)

    def forward(self, x):
        keys, values = self.kv(x).chunk(2, -1)
        return ((self.query @ keys.transpose(1, 2)).softmax(-1) @ values)[:, 0]


class Tokens(nn.Module):
    """Patch embedding, prefix tokens, blocks, final norm, head.

    Args:
        block: class of the blocks.
        depth: number of them.
        prefix: tokens before the picture's.
        head: "class" reads the first token, "mean" averages the picture's, "pool" attends to all, "both" is DINOv2's.
        patch: side of the patches.
        dim: width of the tokens.
        norm: class of the norms.
        embed: "conv", or "pixels": a linear layer on the pixels of patches, the image padded to a multiple of them.
    """

    def __init__(
        self, block=Block, depth=3, prefix=1, head="class", patch=8, dim=16, norm=nn.LayerNorm, embed="conv"
    ) -> None:
        super().__init__()
        self.patch, self.head_kind, self.sequence_first = patch, head, block is SequenceFirst
        self.embed = nn.Conv2d(3, dim, patch, patch) if embed == "conv" else nn.Linear(3 * patch * patch, dim)
        self.prefix = nn.Parameter(torch.randn(1, prefix, dim))
        self.blocks = nn.ModuleList([block(dim, norm=norm) for _ in range(depth)])
        self.norm = norm(dim)
        self.pool = Pooling(dim) if head == "pool" else nn.Identity()
        self.head = nn.Linear(dim * (1 + (head == "both")), 4)

    def patches(self, x):
        if isinstance(self.embed, nn.Conv2d):
            return self.embed(x).flatten(2).transpose(1, 2)
        rows, columns = (-(-side // self.patch) for side in x.shape[2:])
        x = nn.functional.pad(x, (0, columns * self.patch - x.shape[3], 0, rows * self.patch - x.shape[2]))
        x = x.unflatten(2, (rows, -1)).unflatten(4, (columns, -1))  # (N, 3, rows, p, columns, p)
        return self.embed(x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2))

    def forward(self, x):
        x = torch.cat([self.prefix.expand(len(x), -1, -1), self.patches(x)], 1)
        x = x.transpose(0, 1) if self.sequence_first else x
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        x = x.transpose(0, 1) if self.sequence_first else x
        count = self.prefix.shape[1]
        read = {
            "class": lambda: x[:, 0], "mean": lambda: x[:, count:].mean(1), "pool": lambda: self.pool(x),
            "both": lambda: torch.cat([x[:, 0], x[:, count:].mean(1)], 1),
        }  # fmt: skip
        return self.head(read[self.head_kind]())


class Latents(nn.Module):
    """As in the Perceiver: few latents look at all patches and are averaged."""

    def __init__(self, count=16, dim=16):
        super().__init__()
        self.embed, self.norm = nn.Conv2d(3, dim, 8, 8), nn.LayerNorm(dim)
        self.latents, self.look = (
            nn.Parameter(torch.randn(1, count, dim)),
            nn.MultiheadAttention(dim, 2, batch_first=True),
        )
        self.blocks, self.head = nn.ModuleList([Block(dim) for _ in range(3)]), nn.Linear(dim, 4)

    def forward(self, x):
        tokens = self.norm(self.embed(x).flatten(2).transpose(1, 2))
        latents = self.latents.expand(len(x), -1, -1)
        latents = latents + self.look(latents, tokens, tokens)[0]
        for block in self.blocks:
            latents = block(latents)
        return self.head(latents.mean(1))


class Merging(nn.Module):
    """Four tokens become one between two stages, as in Swin; no map after the embedding."""

    def __init__(self, dim=16):
        super().__init__()
        self.embed, self.first = nn.Conv2d(3, dim, 4, 4), Block(dim)
        self.merge, self.second, self.head = nn.Linear(4 * dim, dim), Block(dim), nn.Linear(dim, 4)

    def forward(self, x):
        x = self.embed(x)
        rows, columns = x.shape[2:]
        x = self.first(x.flatten(2).transpose(1, 2)).unflatten(1, (rows, columns))
        x = torch.cat([x[:, ::2, ::2], x[:, 1::2, ::2], x[:, ::2, 1::2], x[:, 1::2, 1::2]], -1).flatten(1, 2)
        return self.head(self.second(self.merge(x)).mean(1))


class ClassAttention(nn.Module):
    """The class token joins behind the blocks of the picture, as in CaiT."""

    def __init__(self, dim=16):
        super().__init__()
        self.embed, self.token = nn.Conv2d(3, dim, 8, 8), nn.Parameter(torch.randn(1, 1, dim))
        self.blocks = nn.Sequential(Block(dim), Block(dim))
        self.look, self.head = nn.MultiheadAttention(dim, 2, batch_first=True), nn.Linear(dim, 4)

    def forward(self, x):
        x = self.blocks(self.embed(x).flatten(2).transpose(1, 2))
        token = self.token.expand(len(x), -1, -1)
        return self.head((token + self.look(token, x, x)[0])[:, 0])
