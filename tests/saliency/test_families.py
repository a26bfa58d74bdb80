"""Which method works on which family of networks: runs them all and holds the table in docs/methods.md to it.

To write the table anew: `python tests/saliency/test_families.py`, which takes many minutes. With names of methods as
arguments, only their columns are computed.
"""

import re
import sys
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from sess_lightning import SESS
from sess_lightning.layers import to_grid
from sess_lightning.probing import probe
from sess_lightning.saliency import (
    RISE,
    XRAI,
    AugmentedGradCAM,
    ExtremalPerturbation,
    GroupCAM,
    ScoreCAM,
    SmoothGrad,
    SmoothGradCAMPlusPlus,
    from_captum,
    method_names,
)
from sess_lightning.saliency.registry import resolve_method

DOCS = Path(__file__).parents[2] / "docs" / "methods.md"
START, END = "<!-- families: made by tests/saliency/test_families.py -->\n", "<!-- end of families -->\n"
FAMILIES = {
    "ResNet": "resnet18", "VGG": "vgg11_bn", "DenseNet": "densenet121", "SqueezeNet": "squeezenet1_1",
    "MobileNetV2": "mobilenet_v2", "MobileNetV3": "mobilenet_v3_small", "EfficientNet": "efficientnet_b0",
    "ConvNeXt": "convnext_tiny", "ViT": "vit_b_16", "Swin": "swin_t",
    "timm ResNet": "timm:resnet10t", "timm VGG": "timm:vgg11", "timm DenseNet": "timm:densenet121",
    "timm MobileNetV3": "timm:mobilenetv3_small_050", "timm EfficientNet": "timm:efficientnet_lite0",
    "timm ConvNeXt": "timm:convnext_atto", "timm RegNet": "timm:regnety_002",
    "timm ViT": "timm:vit_tiny_patch16_224", "timm DeiT": "timm:deit_tiny_distilled_patch16_224",
    "timm Swin": "timm:swin_tiny_patch4_window7_224",
}  # fmt: skip


def few_channels(activation):
    """Four of the layer's channels, as each costs a forward: the liveliest, as with random weights many are dead."""
    grid = to_grid(activation, (224, 224))
    return grid[:, grid.flatten(2).std(2)[0].topk(4).indices]


YES, AS_GRADIENT = "yes", "= gradient"
# The same methods with less work.
SHORT = {
    "augmented_gradcam": lambda: AugmentedGradCAM(num_copies=2, num_steps=2),
    "extremal_perturbation": lambda: ExtremalPerturbation(areas=(0.1,), num_steps=2),
    "groupcam": lambda: GroupCAM(groups=4),
    "integrated_gradients": lambda: from_captum(__import__("captum.attr").attr.IntegratedGradients, n_steps=2),
    "rise": lambda: RISE(num_masks=4),
    "scorecam": lambda: ScoreCAM(reshape=few_channels),
    "smooth_gradcam++": lambda: SmoothGradCAMPlusPlus(num_samples=2),
    "smoothgrad": lambda: SmoothGrad(num_samples=2),
    "xrai": lambda: XRAI(steps=2, algorithm="fast"),
}


@cache
def network(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name.startswith("timm:"):
            timm = pytest.importorskip("timm")
            model = timm.create_model(name[5:], pretrained=False, num_classes=5)
        else:
            model = torchvision.models.get_model(name, weights=None, num_classes=5)
        for module in model.modules():
            if isinstance(module, nn.Linear) and not module.weight.any():
                nn.init.normal_(module.weight)  # heads that begin at zero
        return model.eval()


def verdict(name, model):
    """What a method does on a network: works, refuses and says why, or gives what the input gradient gives."""
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with probe(model):
        target = model(images).argmax(1)
    method = SHORT.get(name, lambda: resolve_method(name))()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = SESS(method, num_scales=1)(model, images, target)
        except ValueError as error:
            if not any(reason in str(error) for reason in ("no rule for attention", "more than average pooling")):
                raise
            return "-"
    assert torch.isfinite(result.maps).all()
    assert result.valid.all() or name == "groupcam"  # random weights: a mask may show less than a blur
    return AS_GRADIENT if any("no relu" in str(warning.message) for warning in caught) else YES


def documented():
    """family: name of a method: what the table in the docs says."""
    head, _, *rows = DOCS.read_text().split(START)[1].split(END)[0].splitlines()
    names = re.findall(r"`(.+?)`", head)
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    return {label.split(" (`")[0]: dict(zip(names, found, strict=True)) for label, *found in cells}


def table(known=None):
    """The table in Markdown; what `known` says, by family and name of the method, is not computed."""
    head = f"| | {' | '.join(f'`{name}`' for name in method_names())} |"
    lines = [head, "|---" * (len(method_names()) + 1) + "|"]
    for family, name in FAMILIES.items():
        model, cells = network(name), (known or {}).get(family, {})
        found = [cells[method] if method in cells else verdict(method, model) for method in method_names()]
        lines.append(f"| {family} (`{name.removeprefix('timm:')}`) | {' | '.join(found)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


@pytest.mark.slow
def test_the_table_in_the_docs_is_what_a_run_gives():
    assert DOCS.read_text().split(START)[1].split(END)[0] == table()


@cache
def short_network(family):
    """The family's network; of the large one, torchvision's ViT, two narrow blocks, made of the same modules."""
    if family != "ViT":
        return network(FAMILIES[family])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torchvision.models.VisionTransformer(224, 16, 2, 4, 64, 128, num_classes=5)
    nn.init.normal_(model.heads.head.weight, generator=torch.Generator().manual_seed(0))  # it begins at zero
    return model.eval()


@pytest.mark.parametrize("family", ["ResNet", "ViT", "timm ResNet", "timm ViT"])
@pytest.mark.parametrize("name", ["gradcam", "excitation_bp", "cam"])
def test_some_cells_of_it(family, name):
    assert verdict(name, short_network(family)) == documented()[family][name]


def test_every_family_and_method_is_in_the_table():
    assert {family: list(cells) for family, cells in documented().items()} == dict.fromkeys(FAMILIES, method_names())


if __name__ == "__main__":
    new = sys.argv[1:]
    known = {
        family: {name: cell for name, cell in cells.items() if name not in new}
        for family, cells in documented().items()
    }
    before, rest = DOCS.read_text().split(START)
    DOCS.write_text(before + START + table(known if new else None) + END + rest.split(END)[1])
