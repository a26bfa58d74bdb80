"""Small networks with random weights for the tests."""

import random
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.modules import module as module_hooks

METRICS_GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"


def small_cnn(num_classes=4, channels=3, inplace=False, norm=True):
    """Two convolutions, any input size, one output per class."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8) if norm else nn.Identity(),
            nn.ReLU(inplace=inplace),
            nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(inplace=inplace),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
        )  # fmt: skip


def seeded(seed, *shape):
    """Random normal tensor that leaves the global generator alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def golden_net():
    """The network of tests/golden/metrics: five logits, any image size."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 5),
    )  # fmt: skip
    net.load_state_dict({key: torch.from_numpy(value) for key, value in np.load(METRICS_GOLDEN / "net.npz").items()})
    return net.eval()


def fingerprint(model):
    """All that a method could leave behind on a model or in the process, to compare before and after."""
    states = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()
    modules = [
        (name, id(module), module.training, {k: list(v) for k, v in vars(module).items() if isinstance(v, dict)})
        for name, module in model.named_modules()
    ]
    parameters = [(id(p), p.requires_grad, id(p.grad)) for p in model.parameters()]
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    hooks = len(module_hooks._global_forward_pre_hooks), len(module_hooks._global_forward_hooks)
    return [states, modules, parameters, flags, hooks], tensors


def assert_untouched(model, before):
    """Compare with an earlier `fingerprint`."""
    after = fingerprint(model)
    assert after[0] == before[0]
    assert after[1].keys() == before[1].keys()
    assert all(torch.equal(after[1][name], tensor) for name, tensor in before[1].items())
