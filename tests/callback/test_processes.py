"""What may differ between processes: loggers, failures, values, batches. One pair of gloo processes for all tests.

A call that one process misses ends in the time limit of the group, as an error of the pair.
"""

from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from sess_lightning.callback.trainer_checks import refuse_empty_loaders
from tests.helpers.process_faults import RECORD, WORK
from tests.helpers.process_scenes import work
from tests.helpers.processes import run_in_two
from tests.helpers.training import RELIANCE, Pictures

SMALL = {"num_samples": 4, "num_images": 2, "compare_base": False}

needs_gloo = pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    run_in_two(work, str(folder))
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def both(pair, name):
    return [one[name] for one in pair]


@needs_gloo
def test_only_rank_0_has_a_logger(pair):
    first, second = both(pair, "logger_on_one")
    assert first["written"]
    assert first["waited"]  # a sentence of the run's text
    assert first["sess/num_samples"] == second["sess/num_samples"] == 4


@needs_gloo
def test_all_processes_log_the_same(pair):
    """`own` is finite on one process only, `kept` has lists of three and of two."""
    first, second = both(pair, "values")
    assert {k for k in first if "/" in k} == {"sess/own", "sess/kept", "sess/pointing_acc", "sess/seconds",
                                              "sess/num_samples", "sess/valid_fraction"} | RELIANCE  # fmt: skip
    seconds = max(first.pop("mine"), second.pop("mine"))
    assert first == second
    assert first["times"][1] >= 0.3  # a process that sleeps; the other does not wait in its own time
    assert len(first["times"]) == 2
    assert first["sess/own"] == 0.75
    assert first["sess/num_samples"] == 5
    assert first["sess/seconds"] == pytest.approx(seconds, rel=1e-6)
    assert not first["advised"]
    followed = Pictures().images[[0, 1, 2, 4, 6]]
    assert first["sess/kept"] == pytest.approx(float(followed.mean((1, 2, 3)).sum()), rel=1e-5)


@needs_gloo
def test_a_process_without_a_batch(pair):
    first, second = both(pair, "no_batch")
    assert {key: first[key] for key in second} == second
    assert first["sess/num_samples"] == 2
    assert first["sess/kept"] == pytest.approx(float(Pictures().images[:2].mean((1, 2, 3)).sum()), rel=1e-5)


@needs_gloo
def test_a_failure_of_one_process_is_told_on_rank_0_and_skipped_on_all(pair):
    first, second = both(pair, "fails_once")
    third, fourth = first["told"]
    assert "process 1 of 2" in third
    assert "RuntimeError: not this time" in third
    assert "RuntimeError: seldom, and on one process" in fourth
    assert first["epochs"] == second["epochs"] == 5
    assert first["saved"] == ["epoch=0", "epoch=1", "epoch=4"]
    assert first["settings"] == second["settings"] == (-1, True)


@needs_gloo
def test_a_first_failure_of_one_process_is_raised_on_all(pair):
    first, second = both(pair, "fails_first")
    assert "process 1 of 2" in first["error"]
    assert "KeyError" in first["error"]
    assert "no such class" in first["error"]
    assert second["error"] == "KeyError('no such class')"


@needs_gloo
def test_an_argument_that_is_wrong_on_one_process_ends_all_before_training(pair):
    first, second = both(pair, "wrong_on_one")
    assert "process 1 of 2" in first["error"]
    assert "`indices` of SESSCallback" in first["error"]
    assert "MisconfigurationException('Expected argument `indices`" in second["error"]


@needs_gloo
def test_a_photo_of_a_class_that_the_model_lacks_ends_all_before_training(pair):
    for one in both(pair, "unknown_class"):
        assert "0..3, but photo 1 of list has class 9" in one["error"]


@needs_gloo
def test_a_resumed_training_follows_the_same_on_every_process(pair):
    for one in both(pair, "resumed"):
        assert one["same"] == one["first"] != one["fresh"]
        assert one["same told"] == one["fresh told"] == []
        assert one["seed"] != one["first"]
        assert len(one["more"]) == 3
    told = pair[0]["resumed"]
    assert "seed was 0 and is 1" in told["seed told"][0]
    assert "num_samples was 4 and is 6" in told["more told"][0]


@needs_gloo
@pytest.mark.parametrize(("scene", "faulty"), [("faults", 1), ("faults_of_rank_0", 0)])
def test_work_that_fails_at_random_on_one_process(pair, scene, faulty):
    """What `on_error="warn"` is for: no hang, and the weights are those of the training without the callback."""
    first, second = both(pair, scene)
    assert first["epochs"] == second["epochs"] == first["validations"] == second["validations"] == 30
    assert first["same"]
    assert second["same"]
    raised = both(pair, scene)[faulty]["raised"]
    assert set(raised) == set(WORK) - ({"image", "files", "line"} if faulty else set())
    harmless = {"image", *RECORD}  # what is not recorded is logged and explained all the same
    assert first["told"] == len([work for work in raised if work not in harmless])  # its own validation only
    unrecorded = sum(work in ("tiles", "files") for work in raised)  # a line is written before "line" fails
    assert first["lines"] == 30 - first["told"] - unrecorded


@needs_gloo
@pytest.mark.parametrize("case", ["self(x) 4", "self.net(x) 4", "self(x) 1"])
def test_the_worst_of_all_processes(pair, case):
    """As a plain loop over all samples finds them; of 21 the first comes a second time, as the sampler pads."""
    first, second = (one[case] for one in both(pair, "follows"))
    assert second["worst"] == [None] * 4
    for number, expected in enumerate(first["expected"]):
        losses, wrong = first["rows"][number]
        assert first["losses"][number]["worst"] == pytest.approx(_highest([*losses, losses[0]], 3), rel=1e-4)
        assert set(first["worst"][number]) <= set(expected)
        before = first["rows"][number - 1][1] if number else [True] * 21
        new = [i for i in range(21) if wrong[i] and not before[i]]
        repeated = [losses[i] for i in new] + [losses[0]] * (0 in new)
        assert first["losses"][number]["new_errors"] == pytest.approx(_highest(repeated, 3), rel=1e-4)
        assert set(first["new_errors"][number]) <= set(new)
    assert any(first["new_errors"])


def _highest(values, count):
    return sorted(values, reverse=True)[:count]


@pytest.mark.parametrize("owner", ["module", "datamodule"])
def test_processes_that_may_have_no_batch_are_refused(owner):
    both = {"module": pl.LightningModule(), "datamodule": pl.LightningDataModule()}
    both[owner].allow_zero_length_dataloader_with_multiple_devices = True
    for world_size in (1, 2):
        t = SimpleNamespace(world_size=world_size, datamodule=both["datamodule"])
        if world_size == 1:
            refuse_empty_loaders(t, both["module"])
        else:
            with pytest.raises(MisconfigurationException, match=r"allow_zero_length.*=True on 2 processes"):
                refuse_empty_loaders(t, both["module"])


@needs_gloo
def test_a_warning_that_is_an_error_on_rank_0_ends_all(pair):
    """None waits for the one that raised."""
    first, second = both(pair, "warnings_are_errors")
    assert len(first) == 9
    for says in first:
        assert says in (first[says] or ""), says
        assert says in (second[says] or ""), says
        assert "timeout" not in second[says].lower()
