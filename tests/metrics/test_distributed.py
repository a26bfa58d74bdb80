"""Two gloo processes with uneven shards, and with an empty one, agree with one process on all samples."""

import warnings

import numpy as np
import pytest
import torch

from tests.helpers.metric_cases import CASES, samples, select
from tests.helpers.processes import run_in_two

SHARDS = {
    "uneven": ([0, 1, 2, 3, 4], [5, 6]),
    "empty": ([0, 1, 2, 3, 4, 5, 6], []),
    "other_empty": ([], [0, 1, 2, 3, 4, 5, 6]),
}


def work(rank, folder):
    """What one process does: every metric with every way of sharding; saves its results."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    data, results = samples(7, seed=3), {}
    for sharding, shards in SHARDS.items():
        for name, case in CASES.items():
            metric = case.make()
            for row in shards[rank]:  # a process without samples never calls update
                metric.update(**case.of(select(data, [row])))
            before = {key: value.clone() for key, value in metric.metric_state.items()}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results[sharding, name] = metric.compute()
            if name == "insertion":
                results[sharding, "mean_curve"] = metric.mean_curve()
            if name == "pointing":
                results[sharding, "class_accuracies"] = metric.class_accuracies()
            if name == "max_box":
                results[sharding, "iou_accuracies"] = metric.iou_accuracies()
            assert all(torch.equal(metric.metric_state[key], value) for key, value in before.items())
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gloo")
    run_in_two(work, str(folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def data():
    return samples(7, seed=3)


@pytest.mark.parametrize("sharding", SHARDS)
@pytest.mark.parametrize("name", CASES)
def test_value_on_all_samples(results, data, sharding, name):
    expected = CASES[name].reference(data)
    for result in results:
        np.testing.assert_allclose(result[sharding, name], expected, atol=1e-5)


@pytest.mark.parametrize("sharding", SHARDS)
def test_other_results_are_those_of_all_samples(results, data, sharding):
    metrics = {name: CASES[name].make() for name in ("insertion", "pointing", "max_box")}
    for name, metric in metrics.items():
        metric.update(**CASES[name].of(data))
    for result in results:
        torch.testing.assert_close(result[sharding, "mean_curve"], metrics["insertion"].mean_curve())
        np.testing.assert_array_equal(result[sharding, "class_accuracies"], metrics["pointing"].class_accuracies())
        torch.testing.assert_close(result[sharding, "iou_accuracies"], metrics["max_box"].iou_accuracies())
