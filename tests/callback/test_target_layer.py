"""`target_layer=` and `reshape=` of the callback, and what it says where all maps are constant."""

import pytest
import torch
from torch import nn

from sess_lightning import SESS, SESSCallback
from sess_lightning.layers import tokens_to_grid
from sess_lightning.saliency import RISE, GradCAM
from tests.helpers.training import SMALL, Module, run, small_sess


def test_layer_by_its_name_in_the_lightning_module(tmp_path):
    given = small_sess(GradCAM("net.4"))
    callback = SESSCallback(given, target_layer="net.2", **SMALL)
    run(tmp_path, callback, max_epochs=1)
    assert callback.sess.method.resolved_layer == "net.2"
    assert given.method.target_layer == "net.4"  # the user's own is as it was
    assert given.method.resolved_layer == ""


def test_reshape_alone_keeps_the_layer():
    reshape = tokens_to_grid(2, 2)
    method = SESSCallback(small_sess(GradCAM("net.4")), reshape=reshape).sess.method
    assert (method.target_layer, method.reshape) == ("net.4", reshape)


@pytest.mark.parametrize("method", [RISE(num_masks=2), "gradient", lambda model, images, targets: images.mean(1)])
def test_a_method_without_a_layer_is_refused_at_once(method):
    with pytest.raises(ValueError, match=r"target_layer.*reads no layer.*Leave them out"):
        SESSCallback(SESS(method), target_layer="net.4")


def test_a_wrong_name_ends_before_training(tmp_path):
    module = Module()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ValueError, match=r"but got '4'.*Nearest names: net\.4"):
        run(tmp_path, SESSCallback(target_layer="4", **SMALL), module=module, num_sanity_val_steps=0)
    assert all(torch.equal(module.state_dict()[name], value) for name, value in before.items())


class Untrained(Module):
    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.net[-1].weight)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_the_cause_of_constant_maps_is_said_once(tmp_path):
    with pytest.warns(UserWarning, match="only constant saliency maps") as caught:
        run(tmp_path, SESSCallback(small_sess(), **SMALL), module=Untrained(), max_epochs=2)
    messages = [str(one.message) for one in caught if "only constant saliency maps" in str(one.message)]
    assert len(messages) == 1
    assert "'net.7.weight' are all zero" in messages[0]
