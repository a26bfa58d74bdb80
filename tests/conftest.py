"""What all tests share."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # makes `nets` importable from every test folder
torch.set_num_threads(1)  # tiny networks: more threads only wait for each other


@pytest.fixture(scope="session")
def root():
    """The repository."""
    return Path(__file__).parent.parent


@pytest.fixture(scope="session")
def real(root):
    """Real weights and photos, which are not part of the project."""
    folder = root.parent / "shared" / "real"
    if not folder.is_dir():
        pytest.skip("real weights and photos are not at hand")
    return folder
