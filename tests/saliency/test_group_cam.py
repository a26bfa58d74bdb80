"""Group-CAM against the formula written down image by image, dead groups, shared batches."""

import pytest
import torch
import torch.nn.functional as F

from sess_lightning import SESS
from sess_lightning.forwarding import memory_format
from sess_lightning.pixels import gaussian_blur
from sess_lightning.saliency import GroupCAM
from tests.helpers.nets import seeded, small_cnn

IMAGES, TARGETS = seeded(0, 3, 3, 60, 52), torch.tensor([0, 3, 1])


def by_hand(model, layer, image, target, groups):
    """SPEC's formula for one image, one group after another."""
    seen = {}
    handle = model[layer].register_forward_hook(lambda m, a, out: seen.update(a=out))
    with torch.enable_grad():
        score = model(image[None].requires_grad_(True))[0, target]
        (gradient,) = torch.autograd.grad(score, seen["a"])
    handle.remove()
    activation = seen["a"].detach()[0]
    weighted = gradient[0].mean((1, 2), keepdim=True) * activation
    blurred = gaussian_blur(image.detach()[None], 51, 50.0)
    with torch.no_grad():
        p = lambda x: model(x).softmax(1)[0, target]  # noqa: E731
        total = torch.zeros(image.shape[-2:])
        for group in weighted.chunk(groups):
            mask = F.interpolate(group.sum(0).relu()[None, None], image.shape[-2:], mode="bilinear")
            if mask.max() == mask.min():
                continue
            shown = (mask - mask.min()) / (mask.max() - mask.min())
            total += (p(image[None] * shown + blurred * (1 - shown)) - p(blurred)).relu() * mask[0, 0]
    return total


@pytest.mark.parametrize("groups", [1, 3, 4, 8, 32])
def test_equals_the_formula(groups):
    model = small_cnn().eval()
    maps = GroupCAM("4", groups)(model, IMAGES, TARGETS).maps
    assert maps.shape == (3, 30, 26)
    for image, target, one in zip(IMAGES, TARGETS, maps, strict=True):
        expected = by_hand(model, 4, image.clone(), int(target), groups)
        upsampled = F.interpolate(one[None, None], image.shape[-2:], mode="bilinear")[0, 0]
        torch.testing.assert_close(upsampled, expected, rtol=1e-3, atol=1e-4 * float(expected.max()) + 1e-9)


def test_a_dead_group_adds_nothing():
    model = small_cnn(norm=False).eval()
    with torch.no_grad():
        model[3].weight[4:] = 0
        model[3].bias[4:] = -1.0  # the second half of the channels never fires
    maps = GroupCAM("4", groups=2)(model, IMAGES, TARGETS).maps
    assert torch.isfinite(maps).all()
    expected = by_hand(model, 4, IMAGES[1].clone(), int(TARGETS[1]), 2)
    upsampled = F.interpolate(maps[1][None, None], (60, 52), mode="bilinear")[0, 0]
    torch.testing.assert_close(upsampled, expected, rtol=1e-3, atol=1e-7)


def test_all_groups_dead_gives_a_flagged_zero_map():
    model = small_cnn(norm=False).eval()
    with torch.no_grad():
        model[3].weight[:], model[3].bias[:] = 0, -1.0
    result = SESS(GroupCAM("4", groups=4), num_scales=1, window_size=None)(model, IMAGES, TARGETS)
    assert not result.maps.any()
    assert not result.valid.any()


def test_masked_forwards_of_many_images_share_batches():
    model, sizes = small_cnn().eval(), []
    memory_format(model, IMAGES)  # found out once, by forwards that are not counted
    model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    GroupCAM("4", groups=4, batch_size=6)(model, IMAGES, TARGETS)
    assert sizes == [3, 6, 6, 3]  # activations; then 3 images x (4 groups + the blurred image)
    sizes.clear()
    GroupCAM("4", groups=4)(model, IMAGES, TARGETS)
    assert sizes == [3, 15]  # small images: up to 32 at a time


def test_batches_change_nothing():
    model = small_cnn().eval()
    maps = GroupCAM("4", groups=4)(model, IMAGES, TARGETS).maps
    for batch_size in (1, 5, 64):
        other = GroupCAM("4", groups=4, batch_size=batch_size)(model, IMAGES, TARGETS).maps
        torch.testing.assert_close(other, maps, rtol=0, atol=1e-6)
    alone = GroupCAM("4", groups=4)(model, IMAGES[1:2], TARGETS[1:2]).maps[0]
    torch.testing.assert_close(alone, maps[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 0}, "`groups` to be a positive int, but got 0"),
        ({"groups": 2.0}, "`groups`"),
        ({"activation": "tanh"}, "`activation`.*softmax.*but got 'tanh'"),
        ({"batch_size": 0}, "`batch_size` to be a positive int or None, but got 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GroupCAM(**arguments)


def test_activation_of_a_named_method_is_that_of_sess():
    assert SESS("groupcam", activation="sigmoid").method.activation == "sigmoid"
    assert SESS("rise", activation="sigmoid").method.activation == "sigmoid"
