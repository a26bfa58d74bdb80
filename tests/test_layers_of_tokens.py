"""The target layer and the grid of transformers, mixers and their kin, by tiny networks of the same structure."""

import logging

import pytest
import torch
from torch import nn

from sess_lightning.layers import find_reshape, find_target_layer
from sess_lightning.probing import probe
from sess_lightning.saliency import GradCAM
from tests.helpers.nets import assert_untouched, fingerprint, seeded
from tests.helpers.transformers import (
    BlockAttention,
    ClassAttention,
    Latents,
    Merging,
    Mixer,
    PostNorm,
    RootMeanSquare,
    SequenceFirst,
    Tokens,
)


def made(make, *args, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(*args, **kwargs)


def found(model, height=32, width=32, count=2):
    with probe(model):
        return find_target_layer(model, seeded(0, count, 3, height, width))


@pytest.mark.parametrize(
    ("options", "layer"),
    [
        ({}, "blocks.2.first"),  # behind it only the class token counts
        ({"prefix": 5}, "blocks.2.first"),
        ({"norm": RootMeanSquare}, "blocks.2.first"),
        ({"norm": nn.RMSNorm}, "blocks.2.first"),
        ({"block": BlockAttention}, "blocks.2.first"),
        ({"block": SequenceFirst}, "blocks.2.first"),
        ({"block": PostNorm}, "blocks.1"),  # no norm at the start of the last block
        ({"head": "both"}, "blocks.2.first"),  # the class token holds a part of the evidence
        ({"head": "mean", "prefix": 0}, "blocks.2"),
        ({"head": "mean", "prefix": 4}, "blocks.2"),
        ({"head": "pool", "prefix": 0}, "blocks.2"),
        ({"head": "pool", "prefix": 0, "norm": RootMeanSquare}, "blocks.2"),
        ({"head": "mean", "prefix": 0, "block": Mixer}, "blocks.2"),
        ({"head": "mean", "prefix": 0, "block": Mixer, "norm": RootMeanSquare}, "blocks.2"),
        ({"head": "mean", "prefix": 0, "embed": "pixels"}, "blocks.2"),
    ],
)
def test_layer_of_networks_of_tokens(options, layer, caplog):
    with caplog.at_level(logging.WARNING):
        assert found(made(Tokens, **options)) == layer
    assert not caplog.text


@pytest.mark.parametrize("options", [{}, {"block": Mixer, "head": "mean", "prefix": 0}, {"head": "pool"}])
def test_names_of_classes_do_not_matter(options):
    model = made(Tokens, **options)
    expected = found(model)
    for number, module in enumerate(model.modules()):
        if not isinstance(module, (nn.ModuleList, nn.Sequential)):
            module.__class__ = type(("Attention", "Dropout", "Norm", "Conv")[number % 4], (type(module),), {})
    assert found(model) == expected


def test_class_attention_behind_the_blocks():
    assert found(made(ClassAttention)) == "blocks"


def test_a_head_of_zeros_says_nothing_against_a_layer():
    """As torchvision's ViT begins: no gradient passes it, and what the logits depend on is found even so."""
    model = made(Tokens)
    nn.init.zeros_(model.head.weight)
    before = fingerprint(model)
    assert found(model) == "blocks.2.first"
    assert_untouched(model, before)


def test_latents_are_no_grid_and_an_early_layer_is_said(caplog):
    """16 latents would make a 4 x 4 grid, half of the patches' 8 x 8."""
    with caplog.at_level(logging.WARNING):
        assert found(made(Latents), 64, 64) == "norm"
    assert "'norm'" in caplog.text
    assert "target_layer=" in caplog.text


def test_merged_tokens_lie_on_half_the_grid():
    model = made(Merging)
    assert found(model, 32, 64) == "second"
    with probe(model):
        lay = find_reshape(model, seeded(0, 2, 3, 32, 64), "second")
    assert lay(torch.zeros(5, 4 * 8, 16)).shape == (5, 16, 4, 8)


@pytest.mark.parametrize("embed", ["conv", "pixels"])
@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize(("height", "width"), [(56, 84), (60, 90), (61, 43), (70, 29), (98, 41)])
def test_grid_of_images_that_are_no_multiple_of_the_patch(height, width, prefix, embed):
    """Of 14 pixels: a convolution drops the rest, the other embedding pads."""
    model = made(Tokens, patch=14, prefix=prefix, embed=embed, depth=1)
    rows, columns = (height // 14, width // 14) if embed == "conv" else (-(-height // 14), -(-width // 14))
    with probe(model):
        lay = find_reshape(model, seeded(0, 1, 3, height, width), "blocks.0")
    tokens = seeded(1, 3, prefix + rows * columns, 16)
    assert torch.equal(lay(tokens), tokens[:, prefix:].transpose(1, 2).reshape(3, 16, rows, columns))


def test_sequence_first_tokens_in_a_map():
    """Against the same map by hand."""
    model = made(Tokens, block=SequenceFirst, depth=2).eval()
    images, targets = seeded(0, 3, 3, 32, 48), torch.tensor([0, 1, 2])
    kept = []
    handle = model.blocks[1].first.register_forward_hook(lambda module, args, output: kept.append(output))
    logits = model(images)
    handle.remove()
    (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), kept[0])
    activation, gradient = (t[1:].permute(1, 2, 0).reshape(3, 16, 4, 6) for t in (kept[0], gradient))
    expected = (gradient.mean((2, 3), keepdim=True) * activation).sum(1).relu()
    method = GradCAM()
    torch.testing.assert_close(method(model, images, targets).maps, expected)
    assert method.resolved_layer == "blocks.1.first"


def test_a_grid_for_each_size_of_images():
    model, method = made(Tokens, patch=14).eval(), GradCAM()
    for height, width in ((56, 84), (84, 56), (56, 84)):
        maps = method(model, seeded(0, 1, 3, height, width), torch.tensor([0])).maps
        assert maps.shape == (1, height // 14, width // 14)


def test_the_search_runs_once_for_a_model():
    """Two images through the model once, then each batch once."""
    model, method = made(Tokens).eval(), GradCAM()
    seen = []
    model.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    images = seeded(0, 5, 3, 32, 32)
    for _ in range(3):
        method(model, images, torch.zeros(5, dtype=torch.long))
    assert seen == [2, 5, 5, 5]


def test_one_block_counts():
    assert found(made(Tokens, depth=1)) == "blocks.0.first"
