"""What torchmetrics promises of a metric, for each of ours, against independent numpy references."""

import pickle
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection

from tests.helpers.metric_cases import CASES, constant, samples, select

NAMES = tuple(CASES)
BATCHES = ([0, 1, 2, 3], [4], [], [5, 6])


@pytest.fixture(scope="module")
def data():
    return samples(7, seed=3)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def case(name):
    return CASES[name]


@pytest.fixture(scope="module")
def expected(data):
    return {name: case.reference(data) for name, case in CASES.items()}


def updated(case, data, batches=BATCHES):
    metric = case.make()
    for rows in batches:
        metric.update(**case.of(select(data, rows)))
    return metric


def test_batches_equal_the_reference(case, name, data, expected):
    value = updated(case, data).compute()
    assert value.shape == ()
    assert case.lowest < expected[name] < 1
    assert expected[name] != 0
    np.testing.assert_allclose(value, expected[name], atol=1e-5)


def test_forward_gives_the_value_of_the_batch(case, data):
    metric = case.make()
    for rows in ([0, 1, 2, 3], [4, 5, 6]):
        batch = select(data, rows)
        np.testing.assert_allclose(metric(**case.of(batch)), case.reference(batch), atol=1e-5)
    np.testing.assert_allclose(metric.compute(), case.reference(data), atol=1e-5)


def test_lists_equal_tensors(case, name, data, expected):
    lists = {key: list(value) if key in ("images", "saliency", "previous") else value for key, value in data.items()}
    metric = case.make()
    metric.update(**case.of(lists))
    np.testing.assert_allclose(metric.compute(), expected[name], atol=1e-5)


def test_reset(case, name, data, expected):
    metric = updated(case, data, [[0, 1]])
    metric.reset()
    assert all(not value.any() for value in metric.metric_state.values())
    metric.update(**case.of(data))
    np.testing.assert_allclose(metric.compute(), expected[name], atol=1e-5)


def test_pickle_keeps_the_states(data):
    # not the case's own lambda is pickled, but the metric
    for name, case in CASES.items():
        metric = updated(case, data, [[0, 1, 2, 3]])
        copy = pickle.loads(pickle.dumps(metric))
        for one in (metric, copy):
            one.update(**case.of(select(data, [4, 5, 6])))
        assert copy.compute() == metric.compute(), name


def test_clone_is_independent(case, name, data, expected):
    metric = updated(case, data, [[0, 1, 2, 3]])
    copy = metric.clone()
    metric.reset()
    copy.update(**case.of(select(data, [4, 5, 6])))
    np.testing.assert_allclose(copy.compute(), expected[name], atol=1e-5)
    assert all(not value.any() for value in metric.metric_state.values())


def test_state_dict_holds_no_model(case, data):
    metric = updated(case, data)
    assert metric.state_dict() == {}
    assert list(metric.parameters()) == []
    assert list(metric.children()) == []


def test_states_are_sums(case):
    metric = case.make()
    assert metric.metric_state
    assert all(isinstance(value, torch.Tensor) for value in metric.metric_state.values())
    assert {reduce.__name__ for reduce in metric._reductions.values()} == {"dim_zero_sum"}


def test_state_names_differ_between_classes():
    names = [name for case in CASES.values() for name in case.make().metric_state]
    assert len(names) == len(set(names))


def test_flags(case):
    metric = case.make()
    assert metric.higher_is_better is case.higher_is_better
    assert metric.is_differentiable is False
    assert metric.full_state_update is False
    assert (metric.plot_lower_bound, metric.plot_upper_bound) == (case.lowest, 1.0)


def test_compute_before_update_warns_and_gives_nan(case):
    metric = case.make()
    with pytest.warns(UserWarning, match="was called before the ``update``"):
        assert torch.isnan(metric.compute())


def test_no_samples_give_nan(case, data):
    assert torch.isnan(updated(case, data, [[]]).compute())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_inputs(case, data, dtype):
    half = {key: v.to(dtype) if isinstance(v, torch.Tensor) and v.is_floating_point() else v for key, v in data.items()}
    metric = case.make()
    metric.update(**case.of(half))
    rounded = {
        key: v.float() if isinstance(v, torch.Tensor) and v.is_floating_point() else v for key, v in half.items()
    }
    assert metric.compute().dtype == torch.float32
    np.testing.assert_allclose(metric.compute(), case.reference(rounded), atol=0.02)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_set_dtype(case, name, data, expected, dtype):
    metric = case.make().set_dtype(dtype)
    metric.update(**case.of(data))
    assert metric.compute().dtype == dtype
    np.testing.assert_allclose(metric.compute(), expected[name], atol=2e-3)


def test_half_leaves_the_states_alone(case, name, data, expected):
    metric = case.make().half()
    metric.update(**case.of(data))
    np.testing.assert_allclose(metric.compute(), expected[name], atol=1e-5)


def test_update_in_and_out_of_inference_mode(case, name, data, expected):
    with torch.inference_mode():
        metric = updated(case, data, [[0, 1]])
        metric.reset()
        metric.update(**case.of(select(data, [0, 1, 2])))
    metric.update(**case.of(select(data, [3, 4, 5, 6])))
    np.testing.assert_allclose(metric.compute(), expected[name], atol=1e-5)


def test_inputs_are_left_alone(case, data):
    before = {key: value.clone() for key, value in data.items() if isinstance(value, torch.Tensor)}
    updated(case, data)
    assert all(torch.equal(data[key], value) for key, value in before.items())


def test_gradients_are_not_recorded(case, data):
    wanting = {**data, "images": data["images"].clone().requires_grad_(), "saliency": data["saliency"].clone()}
    wanting["saliency"].requires_grad_()
    metric = case.make()
    metric.update(**case.of(wanting))
    assert not any(value.requires_grad for value in metric.metric_state.values())


@pytest.mark.parametrize("compute_groups", [False, True])
def test_one_update_feeds_a_collection(data, expected, compute_groups):
    collection = MetricCollection({name: case.make() for name, case in CASES.items()}, compute_groups=compute_groups)
    for rows in ([0, 1, 2], [3, 4, 5, 6]):
        collection.update(**select(data, rows))
    values = collection.compute()
    assert set(values) == set(NAMES)
    for name in NAMES:
        np.testing.assert_allclose(values[name], expected[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("compute_groups", [False, True])
def test_a_constant_model_at_first_does_not_merge_metrics(data, compute_groups):
    """Row 47."""
    collection = MetricCollection({name: case.make() for name, case in CASES.items()}, compute_groups=compute_groups)
    collection.update(**{**data, "predict": constant})
    first = collection.compute()
    np.testing.assert_allclose([first["insertion"], first["deletion"]], 1 / 3, atol=1e-6)
    collection.update(**data)
    values = collection.compute()
    for name in ("insertion", "deletion"):
        np.testing.assert_allclose(values[name], (1 / 3 + CASES[name].reference(data)) / 2, atol=1e-5)


def test_callback_without_objects_or_earlier_maps(data):
    collection = MetricCollection({name: case.make() for name, case in CASES.items()}, compute_groups=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        collection.update(**{**data, "objects": None, "previous": None})
        values = collection.compute()
    needy = {name for name, case in CASES.items() if {"objects", "previous"} & set(case.keywords)}
    assert {"pointing", "drift"} < needy
    assert {name for name, value in values.items() if torch.isnan(value)} == needy
    assert {collection[name].skipped for name in needy} == {7}


def test_plot(case, data):
    metric = updated(case, data)
    figure, _ = metric.plot()
    assert figure.axes
    figure, _ = metric.plot([metric.compute(), metric.compute()])
    assert figure.axes
    plt.close("all")
