"""Why maps are constant: each cause planted, and named with the argument to change."""

import re

import pytest
import torch

from sess_lightning import SESS
from sess_lightning.sess.diagnosis import why_constant
from tests.helpers.nets import seeded, small_cnn


def said(model, method="gradcam"):
    sess = SESS(method, num_scales=1, window_size=32)
    images, targets = [seeded(0, 3, 32, 32)], torch.tensor([1])
    assert not sess(model, images, targets).valid.any()
    return why_constant(sess, model, images, targets)


def negative(model):
    model[7].weight.fill_(-1)


def untrained(model):
    model[7].weight.zero_()


def dead(model):
    model[3].bias.fill_(-100)


def broken(model):
    model[7].bias.fill_(float("nan"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (untrained, r"layer '4', as the weights '7\.weight' are all zero.*not been trained"),
        (dead, r"layer '4' is the same at all positions.*target_layer="),
        (negative, r"layer '4' is negative everywhere.*target='predicted'.*target_layer="),
        (broken, r"logits are not finite"),
    ],
)
def test_cause_and_way_out(change, words):
    model = small_cnn().eval()
    with torch.no_grad():
        change(model)
    assert re.search(words, said(model))


def test_a_method_without_a_layer():
    assert "same value at every pixel" in said(small_cnn().eval(), lambda model, images, targets: images[:, 0] * 0)
