"""Weights of the pointing game's networks in the published layout, with random numbers."""

from __future__ import annotations

import torch
import torchvision

from tests.helpers.nets import seeded

VGG_CONVOLUTIONS = {
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
    17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512),
}  # fmt: skip


def scaled(seed, *shape):
    fan_in = torch.tensor(shape[1:]).prod()
    return seeded(seed, *shape) * (2 / fan_in) ** 0.5


def published_vgg16(classes):
    """A state_dict of the published layout; rows of the linear layers share numbers, which keeps the file small."""
    state = {}
    for index, (channels, width) in VGG_CONVOLUTIONS.items():
        state[f"features.{index}.weight"] = scaled(index, width, channels, 3, 3)
        state[f"features.{index}.bias"] = seeded(index, width)
    for index, (channels, width) in {0: (25088, 4096), 2: (4096, 4096), 4: (4096, classes)}.items():
        numbers = seeded(100 + index, channels + width) * (0.05 if index == 4 else 1) * (2 / channels) ** 0.5
        weight = numbers.as_strided((width, channels), (1, 1))
        state[f"classifier.{index}.weight"] = weight[..., None, None] if index == 4 else weight  # as convolutions, too
        state[f"classifier.{index}.bias"] = seeded(index, width)
    return state


def published_resnet50(classes):
    shapes = {key: value.shape for key, value in torchvision.models.resnet50(num_classes=classes).state_dict().items()}
    state = {}
    for seed, (key, shape) in enumerate({**shapes, "conv1.bias": (64,)}.items()):
        if key.endswith("num_batches_tracked"):
            continue  # Caffe knows none
        if key.endswith("running_var"):
            state[key] = 2 * (seeded(seed, *shape) / 2).exp()
        elif len(shape) > 1:
            state[key] = scaled(seed, *shape) * (0.03 if key == "fc.weight" else 1)
        else:
            state[key] = seeded(seed, *shape) * 0.3 + ("weight" in key)
    return state
