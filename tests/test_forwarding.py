"""What a model accepts is found out once; every forward gives a row for each image."""

import warnings

import pytest
import torch
from torch import nn

from sess_lightning.forwarding import empty_batch, laid_out, memory_format, model_logits
from sess_lightning.metrics import perturbation_curve
from tests.helpers.nets import seeded, small_cnn
from tests.helpers.odd_nets import InPlace, Odd, OneRow, OutOfPlace, Squeezes, SqueezesToNorm, Strided, Views


def images(count=3, seed=0, side=8):
    return seeded(seed, count, 3, side, side)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(Odd, torch.channels_last), (Views, torch.contiguous_format), (Strided, torch.contiguous_format)],
)
def test_the_layout_is_channels_last_where_the_model_accepts_it(kind, expected):
    model = kind().eval()
    assert memory_format(model, images()) == expected
    assert laid_out(model, images()).is_contiguous(memory_format=expected)
    assert memory_format(model, images(side=12)) == expected
    assert torch.allclose(model_logits(model, images()), Odd().eval()(images()), atol=1e-6)


def test_it_is_found_out_once_for_a_size():
    model, calls = Odd(), []
    model.register_forward_hook(lambda *args: calls.append(1))
    memory_format(model, images())
    found = len(calls)
    for _ in range(3):
        memory_format(model, images(seed=1))
    assert len(calls) == found <= 2


def test_the_models_own_error_is_raised():
    class Breaks(nn.Module):
        def forward(self, x):
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        memory_format(Breaks(), images())


def test_finding_out_leaves_no_trace_on_images_and_model():
    model, given = InPlace().train(), images()
    before = given.clone()
    memory_format(model, given)
    assert torch.equal(given, before)
    assert all(module.training for module in model.modules())
    assert torch.equal(model.trunk[1].running_mean, torch.zeros(8))


def test_a_batch_of_one_that_a_squeeze_drops():
    reference = Odd().eval()(images(1))
    assert torch.allclose(model_logits(Squeezes().eval(), images(1)), reference, atol=1e-6)
    squeezes = SqueezesToNorm().eval()
    assert torch.allclose(model_logits(squeezes, images(1))[0], squeezes(images(1).repeat(2, 1, 1, 1))[0], atol=1e-6)


@pytest.mark.parametrize("count", [1, 3])
def test_a_single_logit_that_a_squeeze_leaves_without_its_class(count):
    model = nn.Sequential(Odd(1), nn.Flatten(0)).eval()
    assert model_logits(model, images(count)).shape == (count, 1)


def test_an_output_without_a_row_for_each_image_is_refused():
    with pytest.raises(ValueError, match=r"one row of logits for each of 2 images.*\(1, 4\).*squeeze"):
        model_logits(OneRow().eval(), images(3))


class TwoInputs(Odd):
    def forward(self, x, metadata):
        return super().forward(x)


class KeywordOnly(Odd):
    def forward(self, *, images):
        return super().forward(images)


class OfDict(Odd):
    def forward(self, batch):
        return super().forward(batch["image"])


class NoForward(nn.Module):
    def encode(self, x):
        return x


@pytest.mark.parametrize("kind", [TwoInputs, KeywordOnly, OfDict, NoForward])
def test_a_model_that_takes_more_than_images_is_told_about_forward_fn(kind):
    with pytest.raises(TypeError, match=r"(?s)batch of images alone.*def forward_fn\(module, images, batch\)"):
        model_logits(kind(), images())


def ends_in(*layers):
    return nn.Sequential(small_cnn(8), *layers).eval()


class Normalised(nn.Module):
    def forward(self, x):
        return nn.functional.normalize(x)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ends_in(nn.Softmax(1)), "probabilities .they sum to 1.*logits_fn=torch.log"),
        (torch.jit.trace(ends_in(nn.Softmax(1)), images()), "probabilities .they sum to 1"),
        (ends_in(nn.Sigmoid()), "probabilities .of a sigmoid.*logits_fn=torch.logit"),
        (nn.Sequential(small_cnn(1), nn.Sigmoid()).eval(), "probabilities .of a sigmoid"),
        (ends_in(Normalised()), "length 1, as an embedding"),
    ],
)
def test_an_output_that_is_no_logits_is_said_once(model, message):
    with pytest.warns(UserWarning, match=message):
        model_logits(model, images())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model_logits(model, images(seed=1))


class OfLength(nn.Module):
    """Rows of a length that is no embedding's, but within a hundredth of one."""

    def __init__(self, length, dtype=torch.float32):
        super().__init__()
        self.length, self.dtype = length, dtype

    def forward(self, x):
        return (nn.functional.normalize(x) * self.length).to(self.dtype)


def test_a_length_near_1_is_no_embeddings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model_logits(ends_in(OfLength(1.002)), images())


def test_an_embedding_rounded_to_bfloat16_is_known():
    with pytest.warns(UserWarning, match="length 1, as an embedding"):
        model_logits(ends_in(OfLength(1.0, torch.bfloat16)), images())


def far_from_unit_length():
    """A linear layer whose rows of output are no embedding by chance, whatever the random state."""
    layer = nn.Linear(8, 8)
    nn.init.constant_(layer.bias, 5.0)
    return layer


@pytest.mark.parametrize("layers", [(), (nn.Sigmoid(), far_from_unit_length()), (nn.LogSoftmax(1),), (nn.ReLU(),)])
def test_logits_are_not_taken_for_probabilities(layers):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model_logits(ends_in(*layers), images())


def test_batches_are_in_the_layout_asked_for():
    like = torch.zeros(3, 5, 6, dtype=torch.float16)
    for layout in (torch.channels_last, torch.contiguous_format):
        batch = empty_batch(4, like, layout)
        assert (batch.shape, batch.dtype) == ((4, 3, 5, 6), torch.float16)
        assert batch.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: lambda x: model(x)], ids=["module", "function"])
@pytest.mark.parametrize(("kind", "reference"), [(Views, Odd), (InPlace, OutOfPlace), (SqueezesToNorm, SqueezesToNorm)])
def test_insertion_curves_of_odd_networks(kind, reference, wrap):
    if kind is SqueezesToNorm and wrap(1) != 1:
        pytest.skip("of a function nobody knows what it needs")
    given, saliency, targets = images(2), seeded(3, 2, 8, 8), torch.tensor([0, 1])
    before = given.clone()
    # 5 points an image, 3 a batch: the last batch holds one
    options = {"steps": 4, "baseline": "zeros"}
    found = perturbation_curve(wrap(kind().eval()), given, saliency, targets, batch_size=3, **options)
    expected = perturbation_curve(reference().eval(), given, saliency, targets, batch_size=10, **options)
    assert torch.allclose(found, expected, atol=1e-6)
    assert torch.equal(given, before)


def test_probabilities_that_are_meant_are_not_complained_of():
    given, saliency = images(2), seeded(3, 2, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        perturbation_curve(
            ends_in(nn.Softmax(1)), given, saliency, torch.tensor([0, 1]), steps=4, baseline="zeros", activation=None
        )
