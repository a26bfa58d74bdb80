"""A device that runs out of memory: batches are halved, what filled the memory is gone by then, each step is said."""

import pickle
import warnings
import weakref

import pytest
import torch
from torch import nn

from sess_lightning.forwarding import memory_format, model_logits
from sess_lightning.memory import BatchLimit, is_out_of_memory
from sess_lightning.metrics import DeletionAUC, InsertionAUC, perturbation_curve
from tests.helpers.metric_cases import predict, samples


def full():
    return torch.OutOfMemoryError("planted")


class Device:
    """Logits by `predict` on a device that holds so many images, and what it was given."""

    def __init__(self, holds, error=full):
        self.holds, self.error = holds, error
        self.sizes = []
        self.left = []  # whether what the last failure had filled was gone

    def __call__(self, images):
        self.left += [self.filled() is None] if getattr(self, "filled", None) else []
        self.filled = None
        self.sizes.append(len(images))
        if len(images) > self.holds:
            graph = images * 2
            self.filled = weakref.ref(graph)
            raise self.error()
        return predict(images)


@pytest.fixture
def data():
    return {key: value for key, value in samples(2, seed=4).items() if key in ("images", "saliency", "targets")}


@pytest.mark.parametrize("mode", ["insertion", "deletion"])
def test_curves_are_measured_in_halved_batches(data, mode):
    device = Device(holds=3)
    with pytest.warns(UserWarning, match="ran out of memory") as said:
        found = perturbation_curve(device, **data, mode=mode, steps=5, batch_size=8)
    whole = perturbation_curve(predict, **data, mode=mode, steps=5, batch_size=8)
    torch.testing.assert_close(found, whole, rtol=1e-6, atol=1e-7)
    assert device.sizes == [8, 4, 2, 2, 2, 2, 2, 2]
    assert [str(one.message) for one in said if "memory" in str(one.message)] == [
        f"perturbation_curve ran out of memory and goes on with {size} images per forward. "
        "Pass a smaller batch_size from the start."
        for size in (4, 2)
    ]


def test_what_filled_the_memory_is_gone_before_the_next_try(data):
    device = Device(holds=1)
    with pytest.warns(UserWarning, match="out of memory"):
        perturbation_curve(device, **data, steps=3, batch_size=4)
    assert device.left == [True, True]


@pytest.mark.parametrize("metric", [InsertionAUC, DeletionAUC])
def test_a_metric_keeps_the_smaller_batch(data, metric):
    one = metric(steps=5, batch_size=6)
    device = Device(holds=4)
    with pytest.warns(UserWarning, match=f"{metric.__name__} ran out of memory") as said:
        one.update(device, **data)
    one.update(device, **data)
    one.reset()
    again = pickle.loads(pickle.dumps(one))
    again.update(device, **data)
    assert len(said) == 1
    assert device.sizes == [6] + [3, 3, 3, 3] * 3
    assert one.batch_size == 6  # the argument is as it was given


def test_one_image_that_does_not_fit_is_an_error(data):
    device = Device(holds=0)
    with pytest.warns(UserWarning, match="out of memory"), pytest.raises(torch.OutOfMemoryError, match="planted"):
        perturbation_curve(device, **data, steps=3, batch_size=5)
    assert device.sizes == [5, 2, 1]


def test_other_errors_are_not_tried_again(data):
    device = Device(holds=0, error=lambda: ValueError("a bug"))
    with pytest.raises(ValueError, match="a bug"):
        perturbation_curve(device, **data, steps=3, batch_size=5)
    assert device.sizes == [5]


def test_a_limit_asks_for_no_more_than_was_found_to_fit():
    said = []
    limit = BatchLimit("The test", "Do something else.", said.append)

    def work(size):
        if size > 5:
            raise full()
        return size

    assert [limit.run(work, size) for size in (20, 20, 3, 4)] == [5, 5, 3, 4]
    assert said == [
        "The test ran out of memory and goes on with 10 images per forward. Do something else.",
        "The test ran out of memory and goes on with 5 images per forward. Do something else.",
    ]


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (full(), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("view size is not compatible with input tensor's size and stride"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_lack_of_memory_looks_like(error, is_one):
    assert is_out_of_memory(error) is is_one


def test_lack_of_memory_is_not_taken_for_a_refused_layout():
    class Crowded(nn.Module):
        def forward(self, images):
            if failures and not images.is_contiguous():
                raise failures.pop()
            return images.flatten(1)

    failures = [RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB")]
    model, images = Crowded(), torch.rand(2, 3, 4, 5)
    with pytest.raises(RuntimeError, match="can't allocate"):
        memory_format(model, images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert memory_format(model, images) == torch.channels_last
    assert model_logits(model, images).shape == (2, 60)
