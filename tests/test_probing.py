"""A probe leaves no trace, also when what it surrounds fails."""

import mmap
import os
import platform
import random
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

from sess_lightning.probing import default_batch_size, hookable, probe, restored
from tests.helpers.nets import seeded, small_cnn


def state(model):
    return {
        "modes": [m.training for m in model.modules()],
        "grads": [None if p.grad is None else (id(p.grad), p.grad.clone()) for p in model.parameters()],
        "buffers": [b.clone() for b in model.buffers()],
        "random": (random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


def assert_same(before, after):
    assert before["modes"] == after["modes"]
    assert before["grad mode"] == after["grad mode"]
    for a, b in zip(before["grads"], after["grads"], strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a[0] == b[0]
            assert torch.equal(a[1], b[1])
    assert all(torch.equal(a, b) for a, b in zip(before["buffers"], after["buffers"], strict=True))
    assert before["random"][0] == after["random"][0]
    assert np.array_equal(before["random"][1], after["random"][1])
    assert torch.equal(before["random"][2], after["random"][2])


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_the_model_or_the_random_states_changes(fails):
    model = small_cnn().train()
    model[1].eval()  # a frozen batch norm stays frozen
    model(seeded(0, 2, 3, 8, 8)).sum().backward()
    before = state(model)

    def work():
        with probe(model):
            assert not any(m.training for m in model.modules())
            assert not torch.is_grad_enabled()
            random.random(), np.random.rand(), torch.rand(1)
            with torch.enable_grad():
                model(seeded(1, 2, 3, 8, 8)).sum().backward()
            if fails:
                raise KeyError("in the middle")

    if fails:
        with pytest.raises(KeyError):
            work()
    else:
        work()
    assert_same(before, state(model))


def test_probes_nest():
    model = small_cnn().train()
    before = state(model)
    with probe(model), probe(model):
        model(seeded(0, 1, 3, 8, 8))
    assert_same(before, state(model))


def test_inference_mode_is_left_and_entered_again():
    with torch.inference_mode():
        with probe(small_cnn()):
            assert not torch.is_inference_mode_enabled()
        assert torch.is_inference_mode_enabled()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's allocator")
def test_a_fresh_process_keeps_the_memory_that_layers_free():
    """The first block of 24 MB: above the limit that glibc begins with, under the one after a probe.

    The first one, as whether later ones go back depends on what lies beside them on the heap: each measurement has a
    process of its own, forked before anything was allocated.
    """
    code = """
        import os
        import torch
        from pathlib import Path
        from sess_lightning.probing import probe
        def resident():
            return int(Path("/proc/self/statm").read_text().split()[1])
        for probed in (False, True):
            if os.fork():
                os.wait()
                continue
            if probed:
                with probe(torch.nn.Identity()):
                    pass
            block = torch.zeros(24 * 2**18)
            held = resident()
            del block
            print(held - resident(), flush=True)
            os._exit(0)
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, env=environment
    )
    pages = 24 * 2**20 // mmap.PAGESIZE
    unprobed, probed = map(int, run.stdout.split())
    assert unprobed == pytest.approx(pages, abs=pages / 10)
    assert probed == pytest.approx(0, abs=pages / 10)


@pytest.mark.parametrize(
    ("size", "count"),
    [((224, 224), 4), ((112, 224), 8), ((300, 300), 2), ((448, 448), 1), ((449, 448), 1), ((80, 80), 31), ((8, 8), 32)],
)
def test_images_per_forward_hold_as_many_pixels(size, count):
    assert default_batch_size(torch.device("cpu"), size) == count
    assert default_batch_size(torch.device("meta"), size) == 64


@pytest.mark.parametrize("frozen", [True, False])
def test_what_others_do_to_a_model_is_undone(frozen):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    model[1].weight.requires_grad_(False)
    children = list(model)

    def disturb():
        with restored(model, frozen=frozen):
            assert [p.requires_grad for p in model.parameters()] == [not frozen, not frozen, False, not frozen]
            model[0].register_forward_hook(lambda *args: None)
            model.add_module("more", torch.nn.ReLU())
            model.requires_grad_(True)
            raise ValueError("planted")

    with pytest.raises(ValueError, match="planted"):
        disturb()
    assert list(model) == children
    assert not model[0]._forward_hooks
    assert [p.requires_grad for p in model.parameters()] == [True, True, False, True]


def test_modules_that_take_hooks_include_those_in_lists_and_dicts():
    class Keeper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.child = torch.nn.ReLU()
            self.kept = [torch.nn.Sequential(torch.nn.Tanh())], 5
            self.trunk = [torch.nn.Sequential(torch.nn.Tanh())]
            self.named = {"a": torch.nn.GELU(), 3: "text"}

    model = torch.nn.Sequential(Keeper())
    found = hookable(model)
    assert [type(module).__name__ for module in found] == ["Sequential", "Keeper", "ReLU", "Sequential", "Tanh", "GELU"]
    assert len(hookable(torch.nn.Sequential(model, model))) == 7
