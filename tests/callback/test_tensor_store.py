"""Tensors kept in memory or in a file: the same bits, never the same tensor."""

import pickle
import tempfile
from copy import deepcopy

import pytest
import torch

from sess_lightning.callback import tensor_store
from sess_lightning.callback.tensor_store import TensorStore
from tests.helpers.nets import seeded

MIXED = [
    seeded(0, 3, 5, 7), seeded(1, 3, 9, 9).half(), seeded(2, 4, 6).t(), seeded(3, 2, 3, 5).bfloat16(),
    torch.arange(90).reshape(9, 10) > 40, torch.empty(0, 4), torch.tensor([float("nan"), float("-inf"), -0.0]),
    seeded(4, 1, 8, 8).expand(3, 8, 8), seeded(5, 2, 2).double(), torch.tensor(3.5),
]  # fmt: skip


@pytest.fixture(params=[0, 300, 2**20], ids=["in the file", "in both", "in memory"])
def store(request, monkeypatch):
    monkeypatch.setattr(tensor_store, "IN_MEMORY", request.param)
    filled = TensorStore()
    with torch.inference_mode():
        for tensor in MIXED:
            filled.append(tensor)
    return filled


def same(one, other):
    exact = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)]
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(*exact)


def test_every_bit_comes_back(store):
    with torch.inference_mode():
        singly, together = [store[number] for number in range(len(store))], store.tensors()
    assert all(map(same, singly, MIXED))
    assert all(map(same, together, MIXED))
    assert [store.shape(number) for number in range(len(store))] == [tensor.shape for tensor in MIXED]
    assert not any(tensor.is_inference() for tensor in singly + together)


def test_tensors_in_the_file_begin_where_any_number_may(monkeypatch):
    """Also behind a tensor of an odd number of bytes: code for vectors of numbers may ask for 16."""
    monkeypatch.setattr(tensor_store, "IN_MEMORY", 0)
    store = TensorStore()
    for tensor in (torch.ones(size, dtype=torch.uint8) for size in (1, 15, 16, 17, 31, 33)):
        store.append(tensor)
        store.append(torch.ones(2, dtype=torch.complex128))
    assert [tensor.data_ptr() % 16 for tensor in store.tensors()] == [0] * 12


def test_writing_to_what_was_given_or_read_changes_nothing(store):
    given = seeded(6, 3, 11, 11)
    expected = given.clone()
    store.append(given)
    for tensor in (given, store[len(MIXED)], store.tensors()[-1]):
        tensor.zero_()
    assert same(store[len(MIXED)], expected)
    assert same(store.tensors()[-1], expected)


def test_64_megabytes_stay_in_memory(monkeypatch):
    """As docs/pitfalls.md says in row 30."""

    def opened(**options):
        raise LookupError("a file is opened")

    monkeypatch.setattr(tempfile, "TemporaryFile", opened)
    store = TensorStore()
    store.append(torch.zeros(64 * 2**20, dtype=torch.uint8))
    with pytest.raises(LookupError, match="a file is opened"):
        store.append(torch.zeros(1, dtype=torch.uint8))


def test_copies_of_the_store_stand_for_themselves(store):
    for copied in (pickle.loads(pickle.dumps(store)), deepcopy(store)):
        copied.append(torch.ones(2))
        assert all(map(same, copied.tensors()[:-1], MIXED))
    assert len(store) == len(MIXED)


def test_a_full_disk_keeps_tensors_in_memory(monkeypatch):
    """Also where a part of a tensor was written."""
    monkeypatch.setattr(tensor_store, "IN_MEMORY", 0)
    create = tempfile.TemporaryFile

    class Full:
        room = 1000

        def __init__(self, **options):
            self.file = create(**options)

        def write(self, data):
            if self.room <= 0:
                raise OSError(28, "No space left on device")
            written = self.file.write(data[: self.room])
            self.room -= written
            return written

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    images = [seeded(number, 3, 8, 8) for number in range(4)]  # 768 bytes each
    store = TensorStore()
    for image in images:
        store.append(image)
    assert all(map(same, store.tensors(), images))
    assert all(same(store[number], image) for number, image in enumerate(images))


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(tensor_store, "IN_MEMORY", 4000)
    store = TensorStore()
    for number in range(50):
        store.append(seeded(number, 3, 16, 16))
    held = [entry for entry in store._entries if isinstance(entry, torch.Tensor)]
    assert sum(entry.numel() * entry.element_size() for entry in held) <= 4000
