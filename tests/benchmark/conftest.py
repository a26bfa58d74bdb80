"""A small network on disk, and the words of a benchmark command."""

import pytest
import torch

from sess_lightning.small_cnn import small_cnn


@pytest.fixture
def weights(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = small_cnn(3)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


@pytest.fixture
def words(tmp_path, weights):
    """What all benchmark commands are given here."""

    def of(name, photos, out, **options):
        given = {
            "data": photos,
            "model": "small_cnn",
            "weights": weights,
            "window": 64,
            "accelerator": "cpu",
            "out": out,
        }
        return ["benchmark", name, *(f"--{key}={value}" for key, value in {**given, **options}.items())]

    return of
