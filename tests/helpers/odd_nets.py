"""Networks as people write them: views, in-place input, squeezes, state written in eval mode. All compute the same."""

import torch
from torch import nn

from tests.helpers.nets import small_cnn


class Odd(nn.Module):
    """`small_cnn` in two parts, its pooled features turned into rows as `rows` says."""

    def __init__(self, num_classes=4):
        super().__init__()
        net = small_cnn(num_classes)
        self.trunk, self.head = net[:6], net[7]

    def rows(self, features):
        return features.flatten(1)

    def forward(self, x):
        return self.head(self.rows(self.trunk(x)))


class Views(Odd):
    """Takes its features for contiguous: fails in channels_last."""

    def forward(self, x):
        x = self.trunk[:5](x)
        return self.head(x.view(x.size(0), -1).view(x.size(0), 8, -1).mean(2))


class Strided(Odd):
    """Takes its input for contiguous without a check: in channels_last it reads other pixels."""

    def forward(self, x):
        n, c, h, w = x.shape
        return super().forward(x.as_strided((n, c, h, w), (c * h * w, h * w, w, 1)))


class InPlace(Odd):
    """Normalises its input in place."""

    def forward(self, x):
        return super().forward(x.sub_(0.5).div_(0.25))


class InPlaceData(Odd):
    """The same, hidden from autograd and its version counters."""

    def forward(self, x):
        x.data.sub_(0.5).div_(0.25)
        return super().forward(x)


class OutOfPlace(Odd):
    """What the two above compute."""

    def forward(self, x):
        return super().forward((x - 0.5) / 0.25)


class Squeezes(Odd):
    """Drops a batch of one, and its logits are `(K,)`."""

    def rows(self, features):
        return features.squeeze()


class SqueezesToNorm(Odd):
    """Drops a batch of one before a layer that then fails."""

    def __init__(self, num_classes=4):
        super().__init__(num_classes)
        self.norm = nn.BatchNorm1d(8)

    def rows(self, features):
        return self.norm(features.squeeze())


class OneRow(Odd):
    """Averages over the batch too."""

    def rows(self, features):
        return features.flatten(1).mean(0, keepdim=True)


class Stateful(Odd):
    """Writes in every mode: buffers in place, replaced and through `.data`, plain attributes, a list, a cache."""

    def __init__(self, num_classes=4):
        super().__init__(num_classes)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(3))
        self.register_buffer("hidden", torch.zeros(5))
        self.register_buffer("resized", torch.zeros(0))
        self.calls, self.total, self.seen = 0, torch.zeros(()), [torch.zeros(())]
        self.noise = torch.Generator().manual_seed(0)

    def forward(self, x):
        with torch.no_grad():
            self.mean.mul_(0.9).add_(0.1 * x.mean())
            self.replaced = self.replaced + x.mean()
            self.hidden.data.add_(1)
            self.resized.resize_(2).fill_(x.mean())
        self.calls += 1
        self.total += 1
        self.seen.append(x.detach())
        self.seen[0].add_(1)
        self.cache = x.detach()
        torch.rand(1, generator=self.noise)
        return super().forward(x)
