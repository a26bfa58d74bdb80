"""How far a map moves from one validation to the next."""

import pytest
import torch

from sess_lightning.metrics import SaliencyDrift, saliency_drift


class TestDrift:
    def test_equal_scaled_disjoint_and_opposite_maps(self):
        one, other = torch.rand(1, 5, 6), torch.tensor([[[1.0, 0.0]]])
        assert saliency_drift(one, 3 * one).item() == pytest.approx(0, abs=1e-6)
        assert saliency_drift(other, other.flip(2)).item() == 1
        assert saliency_drift(other, -other).item() == 2

    def test_tiny_and_huge_maps(self):
        one = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
        other = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
        for scale in (1e-30, 1e30):
            assert saliency_drift(scale * one, scale * other).item() == pytest.approx(1 - 0.5**0.5, abs=1e-6)

    def test_samples_without_an_earlier_map_are_skipped(self):
        metric = SaliencyDrift()
        maps = torch.rand(3, 4, 5)
        metric.update(maps, None)
        assert torch.isnan(metric.compute())
        metric.update(maps, [maps[0], None, torch.zeros(4, 5)])
        assert metric.compute().item() == pytest.approx(0, abs=1e-6)
        assert metric.skipped == 5

    def test_lists_of_different_sizes(self):
        maps = [torch.ones(2, 3), torch.ones(4, 5)]
        metric = SaliencyDrift()
        metric.update(maps, [torch.ones(2, 3), torch.ones(4, 5)])
        assert metric.compute().item() == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize(
        ("saliency", "previous", "error", "message"),
        [
            (torch.ones(2, 3, 3), torch.ones(1, 3, 3), ValueError, "`previous` to have one entry"),
            (torch.ones(1, 3, 3), torch.ones(1, 4, 3), ValueError, "map 0 of argument `previous` .* but got"),
            (torch.ones(1, 3, 3), ["map"], TypeError, "map 0 of argument `previous`"),
            (torch.ones(3, 3), torch.ones(1, 3, 3), ValueError, "`saliency` to have shape"),
            (torch.ones(3, 3, 3), torch.ones(3, 3), ValueError, "`previous`"),
        ],
    )
    def test_bad_arguments(self, saliency, previous, error, message):
        with pytest.raises(error, match=message):
            SaliencyDrift().update(saliency, previous)
