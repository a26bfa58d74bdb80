"""Probabilities that float32 cannot hold still weigh the patches."""

import torch
from torch import nn

from sess_lightning import SESS
from tests.helpers.nets import seeded, small_cnn


class Scaled(nn.Module):
    """Logits times a factor, those of class 1 far below the others."""

    def __init__(self, factor):
        super().__init__()
        self.net, self.factor = small_cnn(), factor

    def forward(self, x):
        return self.net(x) * self.factor - torch.tensor([0.0, 200.0, 0.0, 0.0], dtype=x.dtype)


def explained(dtype, ratio=0.0, activation="softmax"):
    image = seeded(0, 1, 3, 24, 24).to(dtype)
    sess = SESS(num_scales=4, window_size=16, prefilter_ratio=ratio, activation=activation)
    return sess(Scaled(3.0).to(dtype).eval(), image, torch.tensor([1]))


def test_weights_are_those_of_float64_where_all_probabilities_are_0():
    for activation in ("softmax", "sigmoid"):
        for ratio in (0.0, 0.5):
            found, expected = (explained(dtype, ratio, activation) for dtype in (torch.float32, torch.float64))
            assert not found.scores[0].any()
            assert expected.scores[0].all()
            assert found.valid
            assert torch.equal(found.kept[0], expected.kept[0])
            assert torch.allclose(found.maps.double(), expected.maps, atol=1e-4)
