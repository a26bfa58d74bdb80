"""CAM, Grad-CAM++, Smooth Grad-CAM++ and Score-CAM: closed forms, the formulas written down, other libraries."""

import numpy as np
import pytest
import torch
import torchvision
from torch.nn import functional as F

from sess_lightning.forwarding import memory_format
from sess_lightning.pixels import minmax
from sess_lightning.saliency import CAM, GradCAM, GradCAMPlusPlus, ScoreCAM, SmoothGradCAMPlusPlus
from sess_lightning.saliency.cam import plus_plus
from tests.helpers.nets import seeded, small_cnn

IMAGES, TARGETS = seeded(0, 3, 3, 20, 28), torch.tensor([0, 3, 1])


def network(name, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torchvision.models.get_model(name, weights=None, num_classes=10, **options).eval()


class TestCAM:
    @pytest.mark.parametrize(
        ("name", "layer"),
        [
            ("resnet18", "layer4"),
            ("mobilenet_v2", "features.18"),
            ("densenet121", "features.norm5"),
            ("efficientnet_b0", "features.8"),
        ],
    )
    def test_its_mean_is_the_logit_but_for_the_bias(self, name, layer):
        model, images, targets = network(name), seeded(1, 2, 3, 96, 128), torch.tensor([3, 7])
        method = CAM()
        maps, logits = (explanation := method(model, images, targets)).maps, explanation.logits
        assert method.resolved_layer == layer
        bias = model.get_parameter([n for n, _ in model.named_parameters()][-1])[targets]
        torch.testing.assert_close(maps.mean((1, 2)) + bias, logits.gather(1, targets[:, None])[:, 0])
        torch.testing.assert_close(logits, model(images))

    def test_of_a_class_map_it_is_the_class_map(self):
        model, images = network("squeezenet1_1"), seeded(1, 2, 3, 96, 128)
        maps = CAM()(model, images, torch.tensor([3, 7])).maps
        classifier = model.classifier[1]
        expected = F.conv2d(model.features(images), classifier.weight)[[0, 1], [3, 7]]
        torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-6)

    def test_equals_torchcam(self):
        methods = pytest.importorskip("torchcam.methods")
        model = small_cnn().eval()
        with methods.CAM(model, "4", fc_layer="7") as extractor, torch.no_grad():
            model(IMAGES)
            (expected,) = extractor(TARGETS.tolist(), normalized=False)
        torch.testing.assert_close(CAM("4")(model, IMAGES, TARGETS).maps, expected)

    def test_class_0_of_one_logit_is_the_negative(self):
        model = small_cnn(num_classes=1)
        maps = CAM()(model, IMAGES[:1].expand(2, -1, -1, -1), torch.tensor([0, 1])).maps
        assert maps[1].abs().max() > 0
        torch.testing.assert_close(maps[0], -maps[1])

    @pytest.mark.parametrize("name", ["vgg11", "convnext_tiny", "mobilenet_v3_small"])
    def test_more_than_pooling_is_refused_with_the_way_out(self, name):
        model = network(name)
        with pytest.raises(ValueError, match=r"more than average pooling. Take GradCAM"):
            CAM()(model, seeded(1, 1, 3, 96, 96), torch.tensor([3]))

    def test_another_model_is_looked_at_anew(self):
        method, other = CAM(), small_cnn(num_classes=7)
        method(small_cnn(), IMAGES, TARGETS)
        assert torch.equal(method(other, IMAGES, TARGETS).maps, CAM()(other, IMAGES, TARGETS).maps)


class TestGradCAMPlusPlus:
    def test_a_4_x_4_example_by_hand(self):
        """One channel; gradient 1 at two pixels, -1 at one: alpha = 1 / (2 + S g), S = 10."""
        activation, gradient = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
        activation[0, 0, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
        gradient[0, 0, 1, 1] = gradient[0, 0, 2, 2] = 1.0
        gradient[0, 0, 3, 3] = -1.0  # cut by the ReLU
        maps = plus_plus(activation, gradient, gradient**2, gradient**3)
        torch.testing.assert_close(maps, activation[:, 0] * (2 / 12))

    def test_equals_the_formula_in_numpy(self):
        method = GradCAMPlusPlus("4")
        model = small_cnn().eval()
        a, g, _ = (part.numpy() for part in method._layer.read(model, IMAGES, TARGETS))
        expected = np.zeros((3, 10, 14))
        for n, k in np.ndindex(3, 8):
            summed = a[n, k].sum()
            alpha = [[v**2 / (2 * v**2 + summed * v**3) if v else 0 for v in row] for row in g[n, k].tolist()]
            expected[n] += (np.array(alpha) * np.maximum(g[n, k], 0)).sum() * a[n, k]
        maps = method(model, IMAGES, TARGETS).maps.numpy()
        np.testing.assert_allclose(maps, np.maximum(expected, 0), rtol=1e-4, atol=1e-7)

    def test_equals_pytorch_grad_cam(self):
        library = pytest.importorskip("pytorch_grad_cam")
        targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
        model = small_cnn(norm=False).eval()
        with torch.no_grad():
            model[-1].weight.mul_(1e4)  # its epsilon of 1e-6 stands beside squares of gradients
        with library.GradCAMPlusPlus(model, [model[4]]) as cam:
            chosen = [targets.ClassifierOutputTarget(c) for c in TARGETS.tolist()]
            expected = torch.from_numpy(cam(IMAGES.clone().requires_grad_(), chosen))
        maps = GradCAMPlusPlus("4")(model, IMAGES, TARGETS).maps
        ours = F.interpolate(minmax(maps)[0][:, None], (20, 28), mode="bilinear")[:, 0]
        torch.testing.assert_close(minmax(ours)[0], expected, rtol=0, atol=2e-5)

    def test_huge_logits_stay_finite(self):
        model = small_cnn()
        with torch.no_grad():
            model[-1].weight.mul_(1e6)
        assert torch.isfinite(GradCAMPlusPlus()(model, IMAGES, TARGETS).maps).all()


class TestSmoothGradCAMPlusPlus:
    def test_without_noise_it_is_grad_cam_plus_plus(self):
        expected = GradCAMPlusPlus()(small_cnn(), IMAGES, TARGETS).maps
        maps = SmoothGradCAMPlusPlus(num_samples=3, spread=0)(small_cnn(), IMAGES, TARGETS).maps
        torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-9)

    def test_averages_the_derivatives_of_noisy_copies(self):
        model, spread, seed = small_cnn().eval(), 0.3, 5
        method = SmoothGradCAMPlusPlus("4", num_samples=4, spread=spread, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        noise = [torch.randn(3, 20, 28, generator=generator) for _ in range(4)]
        for image, target, found in zip(IMAGES, TARGETS, method(model, IMAGES, TARGETS).maps, strict=True):
            deviation = spread * (image.max() - image.min())
            gradients = []
            for one in noise:
                activation = model[:5]((image + deviation * one)[None]).detach().requires_grad_()
                gradients.append(torch.autograd.grad(model[5:](activation)[0, target], activation)[0])
            g = torch.stack(gradients)
            clean = model[:5](image[None]).detach()
            expected = plus_plus(clean, g.mean(0), (g**2).mean(0), (g**3).mean(0))[0]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


class TestScoreCAM:
    def test_equals_the_formula_written_down(self):
        model = small_cnn().eval()
        with torch.no_grad():
            activation = model[:5](IMAGES)
        expected = torch.zeros(3, 20, 28)
        for n, target in enumerate(TARGETS):
            for channel in activation[n]:
                up = F.interpolate(channel[None, None], (20, 28), mode="bilinear")[0, 0]
                if up.max() > up.min():
                    mask = (up - up.min()) / (up.max() - up.min())
                    with torch.no_grad():
                        expected[n] += model((IMAGES[n] * mask)[None]).softmax(1)[0, target] * up
        torch.testing.assert_close(ScoreCAM("4")(model, IMAGES, TARGETS).maps, expected.relu(), rtol=1e-4, atol=1e-6)

    def test_dead_channels_cost_nothing(self):
        model, shown = small_cnn().eval(), []
        with torch.no_grad():
            model[3].weight[2:] = 0
            model[3].bias[2:] = 0.5
        memory_format(model, IMAGES)  # found out once, by forwards that are not counted
        model.register_forward_hook(lambda module, args, output: shown.append(len(output)))
        method = ScoreCAM("4")
        method(model, IMAGES, TARGETS)
        assert sum(shown) == 3 + 3 * 2

    @pytest.mark.parametrize("batch_size", [1, 5, 100])
    def test_batches_change_nothing(self, batch_size):
        expected = ScoreCAM()(small_cnn(), IMAGES, TARGETS).maps
        maps = ScoreCAM(batch_size=batch_size)(small_cnn(), IMAGES, TARGETS).maps
        torch.testing.assert_close(maps, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ScoreCAM(activation="exp"), "`activation`"),
        (lambda: ScoreCAM(batch_size=0), "`batch_size`"),
        (lambda: SmoothGradCAMPlusPlus(num_samples=0), "`num_samples` to be a positive int"),
        (lambda: SmoothGradCAMPlusPlus(spread=-1), "`spread` to be 0 or more"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_plus_plus_is_not_grad_cam():
    """Else the tests above could pass with one in place of the other."""
    model = small_cnn()
    plain, plus = (minmax(m("4")(model, IMAGES, TARGETS).maps)[0] for m in (GradCAM, GradCAMPlusPlus))
    assert (plain - plus).abs().max() > 0.05
