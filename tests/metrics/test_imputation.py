"""Noisy linear imputation: against a sparse solver, its noise, and as the baseline of a curve."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve

from sess_lightning.metrics import DeletionAUC, NoisyLinearImputation, perturbation_curve
from tests.helpers.metric_cases import predict, samples


def solved(image, removed):
    """The paper's linear system, pixel by pixel: image `(C, H, W)`, mask `(H, W)`."""
    pixels = [tuple(one) for one in np.argwhere(removed)]
    number = {pixel: i for i, pixel in enumerate(pixels)}
    matrix, wanted = lil_matrix((len(pixels), len(pixels))), np.zeros((len(pixels), len(image)))
    for i, (y, x) in enumerate(pixels):
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)):
            other = y + dy, x + dx
            if 0 <= other[0] < image.shape[1] and 0 <= other[1] < image.shape[2]:
                weight = 1 / 12 if dy and dx else 1 / 6
                matrix[i, i] += weight
                if other in number:
                    matrix[i, number[other]] = -weight
                else:
                    wanted[i] += weight * image[:, other[0], other[1]]
    filled = image.copy()
    if pixels:
        filled[:, removed] = spsolve(matrix.tocsr(), wanted).reshape(len(pixels), -1).T
    return filled


def picture(rng, height, width):
    """Wide areas, edges and noise."""
    image = gaussian_filter(rng.normal(size=(3, height, width)), (0, 4, 4))
    return image / image.std() + (rng.normal(size=(3, height, width)) * 0.2) + (np.arange(width) > width // 2)


@pytest.mark.parametrize("size", [(1, 7), (2, 2), (13, 18), (47, 64)])
@pytest.mark.parametrize("shape", ["areas", "single pixels"])
def test_equals_a_sparse_solver(size, shape):
    rng = np.random.default_rng(0)
    image = picture(rng, *size)
    order = gaussian_filter(rng.normal(size=size), 5 if shape == "areas" else 0).ravel().argsort().argsort()
    removed = np.stack([(order < int(share * order.size)).reshape(size) for share in (0, 0.2, 0.6, 0.97)])
    images = torch.from_numpy(image).float().expand(4, -1, -1, -1)
    filled = NoisyLinearImputation(noise=0).impute(images, torch.from_numpy(removed))
    for found, mask in zip(filled, removed, strict=True):
        np.testing.assert_allclose(found, solved(image, mask), atol=1e-3 * np.ptp(image))


def test_a_plane_is_filled_exactly():
    """Its values are the means of their neighbours, away from the border."""
    plane = torch.arange(20.0)[:, None] * 2 - torch.arange(30.0)
    removed = torch.zeros(1, 20, 30, dtype=torch.bool)
    removed[:, 3:15, 4:25] = True
    found = NoisyLinearImputation(noise=0).impute(plane[None, None], removed)
    torch.testing.assert_close(found[0, 0], plane, atol=0.01, rtol=0)


def test_what_is_left_stays_as_it_is_and_all_removed_becomes_the_mean():
    images = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(0)).half() + 100
    removed = torch.rand(2, 9, 11, generator=torch.Generator().manual_seed(1)) < 0.5
    removed[1] = True
    found = NoisyLinearImputation(noise=0).impute(images, removed)
    assert found.dtype == torch.float16
    kept = ~removed[0]
    assert torch.equal(found[0][:, kept], images[0][:, kept])
    torch.testing.assert_close(found[1], images[1].mean((1, 2), keepdim=True).expand(-1, 9, 11), atol=0.2, rtol=0)


def test_noise_is_seeded_small_and_independent_of_the_batch():
    images = torch.randn(3, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    removed = torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(1)) < 0.5
    clean = NoisyLinearImputation(noise=0).impute(images, removed)
    state = torch.get_rng_state()
    noisy = NoisyLinearImputation(noise=0.1).impute(images, removed)
    assert torch.equal(torch.get_rng_state(), state)
    noise = (noisy - clean)[removed[:, None].expand_as(clean)]
    assert float(noise.std()) == pytest.approx(0.1, rel=0.1)
    alone = NoisyLinearImputation(noise=0.1).impute(images[2:], removed[2:])
    torch.testing.assert_close(alone[0], noisy[2], atol=2e-3, rtol=0)
    assert not torch.equal(NoisyLinearImputation(noise=0.1, seed=1).impute(images, removed), noisy)


@pytest.mark.parametrize("mode", ["insertion", "deletion"])
def test_as_the_baseline_of_a_curve(mode):
    data = {key: value for key, value in samples(2, seed=1).items() if key in ("images", "saliency", "targets")}
    curves = perturbation_curve(predict, **data, mode=mode, steps=6, baseline=NoisyLinearImputation(noise=0))
    for i, curve in enumerate(curves):
        image = data["images"][i].double().numpy()
        order = np.argsort(-data["saliency"][i].numpy().ravel(), kind="stable")
        for step, found in enumerate(curve):
            changed = np.isin(np.arange(order.size), order[: 32 * step]).reshape(12, 16)
            removed = changed if mode == "deletion" else ~changed
            filled = np.broadcast_to(image.mean((1, 2), keepdims=True), image.shape)
            filled = filled if removed.all() else solved(image, removed)
            expected = predict(torch.from_numpy(filled[None].copy())).softmax(1)[0, data["targets"][i]]
            assert float(found) == pytest.approx(float(expected), abs=2e-3)


def test_by_name_and_in_any_batches():
    data = {key: value for key, value in samples(2, seed=1).items() if key in ("images", "saliency", "targets")}
    named = DeletionAUC(6, baseline="road")(predict, **data)
    given = DeletionAUC(6, baseline=NoisyLinearImputation(), batch_size=3)(predict, **data)
    assert float(named) == pytest.approx(float(given), abs=1e-3)
    assert float(named) != float(DeletionAUC(6)(predict, **data))


@pytest.mark.parametrize("noise", [-1, float("nan"), "much"])
def test_noise_out_of_range(noise):
    with pytest.raises(ValueError, match="argument `noise`"):
        NoisyLinearImputation(noise)


def test_baselines_that_are_none():
    with pytest.raises(ValueError, match="'road', a tensor, a callable or an object with a method `impute`"):
        DeletionAUC(baseline="mean")
