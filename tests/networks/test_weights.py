"""Weights in the forms that trainers store them, and files that hold none."""

import io
import re
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sess_lightning.networks.weights import for_network, load_weights, read_weights
from tests.helpers.nets import small_cnn

TRAINED = small_cnn().state_dict()
AVERAGED = {key: value + 1 for key, value in TRAINED.items()}


def under(prefix, state):
    return {prefix + key: value for key, value in state.items()}


def optimizer_state():
    """Of a real optimizer that has made a step: dicts of tensors too."""
    weight = nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def averaged_model():
    """As torchvision's references store `model_ema`: with a counter and a prefix."""
    average = AveragedModel(small_cnn())
    average.module.load_state_dict(AVERAGED)
    return average.state_dict()


def read(path, content):
    torch.save(content, path)
    network = small_cnn()
    load_weights(network, read_weights(path), "net")
    return network.state_dict()


def equal(state, expected):
    return all(torch.equal(state[key], value) for key, value in expected.items())


COMPILED_INSIDE = {re.sub(r"^3\.", "3._orig_mod.", key): value for key, value in TRAINED.items()}


@pytest.mark.parametrize(
    "content",
    [
        TRAINED,
        {"state_dict": TRAINED, "epoch": 3, "hyper_parameters": {"lr": 0.1}},
        {"model": TRAINED, "optimizer": optimizer_state(), "loss": torch.tensor(0.5)},
        {"model_state_dict": TRAINED, "optimizer_state_dict": optimizer_state()},
        {"net": TRAINED, "acc": 91.5, "epoch": 7},
        {"model": {"state_dict": TRAINED}, "scheduler": {"last_lr": [0.1]}},
        {"my_weights": TRAINED, "optimizer": optimizer_state(), "best": torch.tensor(1.0).item()},
        under("module.", TRAINED),
        under("_orig_mod.", TRAINED),
        under("module._orig_mod.", TRAINED),
        {"state_dict": under("model.", TRAINED) | {"loss.weight": torch.ones(4)}},
        {"state_dict": under("net._orig_mod.", TRAINED)},
        {"state_dict": under("my.own.name.", TRAINED)},
        COMPILED_INSIDE,
        {**TRAINED, "epoch": 3},
        {key: value.half() for key, value in TRAINED.items()},
        {"state_dict": TRAINED, "callbacks": {"best": {"score": torch.tensor(1.0)}}, "loops": {"n": torch.ones(1)}},
    ],
)
def test_forms_of_checkpoints(tmp_path, content):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing to choose, nothing to say
        state = read(tmp_path / "a.pth", content)
    assert all(torch.allclose(state[key], value, atol=1e-3) for key, value in TRAINED.items())


def test_safetensors(tmp_path):
    save_file(under("model.", TRAINED), tmp_path / "a.safetensors")
    stored = read_weights(tmp_path / "a.safetensors")
    assert equal(for_network(stored, small_cnn()), TRAINED)


@pytest.mark.parametrize(
    ("content", "taken"),
    [
        ({"state_dict": TRAINED, "state_dict_ema": AVERAGED}, "state_dict_ema"),
        ({"model": TRAINED, "model_ema": averaged_model(), "optimizer": optimizer_state()}, "model_ema"),
        ({"state_dict": under("net.", TRAINED) | under("ema_model.module.", AVERAGED)}, "ema_model.module."),
    ],
)
def test_the_average_is_taken_and_said(tmp_path, content, taken):
    with pytest.warns(UserWarning, match=rf"those of '{re.escape(taken)}' are taken"):
        state = read(tmp_path / "a.pth", content)
    assert equal(state, AVERAGED)


@pytest.mark.parametrize(
    "content",
    [{"student": TRAINED, "teacher": AVERAGED}, {**under("student.", TRAINED), **under("teacher.", AVERAGED)}],
)
def test_what_cannot_be_told_apart_is_asked_for(tmp_path, content):
    with pytest.raises(ValueError, match=r"`weights` .* one set of weights, but .*student.*teacher.*torch\.save"):
        read(tmp_path / "a.pth", content)


def test_hyper_parameters_of_lightning(tmp_path):
    torch.save({"state_dict": TRAINED, "hyper_parameters": {"input_size": 48}}, tmp_path / "a.ckpt")
    assert read_weights(tmp_path / "a.ckpt").options == {"input_size": 48}
    torch.save({"state_dict": TRAINED, "hyper_parameters": 7}, tmp_path / "a.ckpt")
    assert read_weights(tmp_path / "a.ckpt").options == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "a list"),
        ({}, "an empty dict"),
        ({"epoch": 3, "optimizer": optimizer_state()}, "entries 'epoch', 'optimizer'"),
        ({0: torch.ones(2)}, "entries 0"),
        (torch.ones(3), "a Tensor"),
    ],
)
def test_a_file_without_weights(tmp_path, content, said):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=rf"Expected argument `weights` .*{said}.*torch\.save"):
        read_weights(tmp_path / "a.pth")


def test_damaged_files_are_refused_in_one_line(tmp_path):
    """Files of every format, cut and changed at random, with the suffix of any."""
    generator = torch.Generator().manual_seed(0)
    buffers = [io.BytesIO(), io.BytesIO()]
    torch.save(TRAINED, buffers[0])
    torch.save(TRAINED, buffers[1], _use_new_zipfile_serialization=False)
    save_file(TRAINED, tmp_path / "a.safetensors")
    wholes = [
        *(buffer.getvalue() for buffer in buffers),
        (tmp_path / "a.safetensors").read_bytes(),
        b"",
        b"\x80",
        b"PK",
    ]
    for number in range(90):
        whole = bytearray(wholes[number % len(wholes)])
        if whole:
            for place in torch.randint(len(whole), (5,), generator=generator).tolist():
                whole[place % 400 % len(whole)] = place % 256
            whole = whole[: int(torch.randint(1, 2 * len(whole), (1,), generator=generator))]
        path = tmp_path / ("a.safetensors" if number % 5 == 0 else "a.pth")
        path.write_bytes(whole)
        try:
            stored = read_weights(path)
        except ValueError as error:
            assert "`weights`" in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert all(isinstance(value, torch.Tensor) for value in stored.state.values())


def test_a_folder_or_nothing_instead_of_a_file(tmp_path):
    with pytest.raises(ValueError, match=r"`weights` .*, only a folder: name the file in it\."):
        read_weights(tmp_path)
    with pytest.raises(ValueError, match=r"`weights` .* found no file .*nothing\.pth\."):
        read_weights(tmp_path / "nothing.pth")
    with pytest.raises(ValueError, match=r"`weights` .* found no file"):
        read_weights(tmp_path / ("a" * 400))


def test_what_does_not_fit_is_said_in_one_line(tmp_path):
    torch.save({**small_cnn(num_classes=9).state_dict(), "more": torch.ones(1)}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"do not fit 'net'") as caught:
        load_weights(small_cnn(), read_weights(tmp_path / "a.pth"), "net")
    assert "1 not known to the network: more" in str(caught.value)
    assert "2 with a size mismatch: 7.weight (9, 8) for (4, 8), 7.bias (9,) for (4,)." in str(caught.value)
    assert "\n" not in str(caught.value)
