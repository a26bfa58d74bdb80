import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sess_lightning.render.colormap import colorize, overlay
from sess_lightning.render.normalization import denormalize, normalization_misfit

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
QUICK = settings(max_examples=40, deadline=None)


def _linear(rgb: np.ndarray) -> np.ndarray:
    scaled = rgb / 255
    return np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)


def _cie_lightness(rgb: np.ndarray) -> np.ndarray:
    y = _linear(rgb) @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27)


def _oklab(rgb: np.ndarray) -> np.ndarray:
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(_linear(rgb) @ np.array(to_lms).T) @ np.array(to_lab).T


def _colours() -> np.ndarray:
    return colorize(torch.arange(256)[None] / 255).squeeze(1).T.numpy().astype(float)


def _photos(low: float = 0.0, high: float = 1.0, channels: int = 3, quantised: bool = False) -> Tensor:
    """Smooth random pictures that span `low` to `high`."""
    noise = torch.rand(6, channels, 5, 5, generator=torch.Generator().manual_seed(3))
    smooth = torch.nn.functional.interpolate(noise, (24, 30), mode="bilinear", align_corners=True)
    spread = low + (high - low) * (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (spread * 255).round() / 255 if quantised else spread


def _normalised(photos: Tensor, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> Tensor:
    return (photos - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


class TestColorize:
    def test_the_colours_are_a_helix_in_oklab(self):
        lightness, a, b = _oklab(_colours()).T
        np.testing.assert_allclose(lightness, np.linspace(0.14, 0.96, 256), atol=3e-3)
        degrees = np.rad2deg(np.unwrap(np.arctan2(b - 0.027, a - 0.044)))
        np.testing.assert_allclose(degrees, np.linspace(-110.5, 136.6, 256), atol=5)
        np.testing.assert_allclose(np.hypot(a - 0.044, b - 0.027), 0.119, atol=6e-3)

    def test_lightness_rises_with_every_colour(self):
        lightness = _cie_lightness(_colours())
        assert np.diff(lightness).min() > 0
        assert lightness[0] < 4
        assert lightness[-1] > 94

    def test_steps_are_perceptually_uniform(self):
        lab = _oklab(_colours())
        assert np.abs(lab[:, 0] - np.linspace(0.14, 0.96, 256)).max() < 0.01  # 8 bits are coarse in the dark
        steps = np.linalg.norm(np.diff(lab[::15], axis=0), axis=1)
        assert steps.min() > 0.9 * steps.max()

    def test_hues(self):
        dark, low, high, top = _colours()[[0, 96, 180, 255]]
        assert dark[2] == dark.max() < 50  # near-black violet
        assert low[0] > low[2] > low[1]  # magenta
        assert high[0] > high[1] > high[2]  # orange
        assert top.min() > 120 < top[2] < top[0]  # pale yellow

    @QUICK
    @given(
        shape=st.lists(st.integers(1, 3), max_size=2).flatmap(
            lambda lead: st.tuples(st.just(tuple(lead)), st.integers(1, 9), st.integers(1, 9))
        ),
        dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    )
    def test_shape_and_type(self, shape, dtype):
        lead, height, width = shape
        colours = colorize(torch.rand(*lead, height, width).to(dtype))
        assert colours.shape == (*lead, 3, height, width)
        assert colours.dtype == torch.uint8

    def test_values_outside_are_clamped(self):
        assert torch.equal(colorize(torch.tensor([[-3.0, 7.0]])), colorize(torch.tensor([[0.0, 1.0]])))

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
    def test_not_finite(self, bad):
        with pytest.raises(ValueError, match="`saliency` to be finite"):
            colorize(torch.tensor([[0.5, bad]]))

    @pytest.mark.parametrize("bad", [torch.zeros(3), torch.zeros(0, 3), torch.zeros(2, 2, dtype=torch.long), [[0.5]]])
    def test_not_a_map(self, bad):
        with pytest.raises(ValueError, match="`saliency`"):
            colorize(bad)

    def test_the_table_survives_a_write(self):
        first = colorize(torch.zeros(1, 1))
        first.fill_(9)
        assert colorize(torch.zeros(1, 1)).flatten().tolist() == [3, 1, 43]


class TestOverlay:
    @QUICK
    @given(height=st.integers(1, 20), width=st.integers(1, 20), opacity=st.floats(0, 1))
    def test_shape_and_type(self, height, width, opacity):
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
        blended = overlay(image, torch.rand(height, width), opacity)
        assert blended.shape == image.shape
        assert blended.dtype == torch.uint8

    def test_both_stay_readable(self):
        image = torch.randint(0, 256, (3, 8, 8), dtype=torch.uint8)
        saliency = torch.rand(8, 8)
        assert torch.equal(overlay(image, saliency, 1.0), colorize(saliency))
        grey = overlay(image, saliency, 0.0)
        assert torch.equal(grey[0], grey[1])
        striped = torch.zeros(3, 2, 2, dtype=torch.uint8)
        striped[..., 1] = 255
        blended = overlay(striped, torch.tensor([[0.0, 0.0], [1.0, 1.0]])).float().mean(0)
        assert (blended[:, 1] - blended[:, 0]).min() > 60  # the picture is seen at every saliency
        assert (blended[1] - blended[0]).min() > 60  # the saliency is seen on dark and light

    @pytest.mark.parametrize(
        ("image", "saliency", "opacity", "message"),
        [
            (torch.zeros(3, 2, 2), torch.zeros(2, 2), 0.5, "`image`.*uint8.*denormalize"),
            (torch.zeros(1, 2, 2, dtype=torch.uint8), torch.zeros(2, 2), 0.5, "`image`"),
            (torch.zeros(3, 0, 2, dtype=torch.uint8), torch.zeros(0, 2), 0.5, "`image`.*pixel"),
            ("photo", torch.zeros(2, 2), 0.5, "`image`.*str"),
            (torch.zeros(3, 2, 2, dtype=torch.uint8), torch.zeros(2, 3), 0.5, r"`saliency`.*\(2, 2\).*\(2, 3\)"),
            (torch.zeros(3, 2, 2, dtype=torch.uint8), torch.zeros(1, 2, 2), 0.5, "`saliency`"),
            (torch.zeros(3, 2, 2, dtype=torch.uint8), torch.full((2, 2), float("nan")), 0.5, "finite"),
            (torch.zeros(3, 2, 2, dtype=torch.uint8), torch.zeros(2, 2), 1.5, r"`opacity`.*1\.5"),
        ],
    )
    def test_bad_input(self, image, saliency, opacity, message):
        with pytest.raises(ValueError, match=message):
            overlay(image, saliency, opacity)


class TestDenormalize:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_eight_bit_pictures_come_back_exactly(self, dtype):
        pictures = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
        images = _normalised(pictures.to(dtype) / 255)
        assert torch.equal(denormalize(images, MEAN, STD), pictures)
        assert torch.equal(denormalize(images[0], list(MEAN), list(STD)), pictures[0])

    def test_values_outside_are_clamped(self):
        image = torch.tensor([-1.0, 0.0, 1.0, 3.0]).reshape(1, 2, 2)
        assert denormalize(image, (0.5,), (0.5,), stretch=False)[0].flatten().tolist() == [0, 128, 255, 255]

    def test_one_channel_is_repeated(self):
        picture = torch.randint(0, 256, (2, 1, 9, 7), dtype=torch.uint8)
        shown = denormalize((picture / 255 - 0.13) / 0.31, (0.13,), (0.31,))
        assert torch.equal(shown, picture.expand(2, 3, 9, 7))

    def test_other_channels_are_stretched_per_image(self):
        images = torch.randn(5, 6, 4, 4) * 7
        shown = denormalize(images, (0.5,) * 6, (0.5,) * 6)
        assert shown.shape == (5, 3, 4, 4)
        assert shown.amin((1, 2, 3)).tolist() == [0] * 5
        assert shown.amax((1, 2, 3)).tolist() == [255] * 5
        two = denormalize(images[0, :2], (0.0,), (1.0,))
        assert torch.equal(two[1], two[2])
        assert not torch.equal(two[0], two[1])

    def test_a_misfit_is_stretched_and_readable(self):
        photos = _photos()
        for wrong in (photos, photos * 255):
            shown = denormalize(wrong, MEAN, STD)
            assert shown.amin((1, 2, 3)).max() == 0
            assert shown.amax((1, 2, 3)).min() == 255
        assert denormalize(photos[0], MEAN, STD, stretch=False).min() > 80  # what would be seen otherwise: fog

    @QUICK
    @given(
        channels=st.integers(1, 5),
        height=st.integers(1, 6),
        width=st.integers(1, 6),
        scale=st.sampled_from([0.0, 1e-30, 1.0, 300.0, 3e38]),
        dtype=st.sampled_from([torch.float16, torch.float32, torch.float64, torch.uint8]),
    )
    def test_shape_and_type(self, channels, height, width, scale, dtype):
        images = ((torch.rand(2, channels, height, width) * 2 - 1) * scale).clamp(-6e4, 6e4).to(dtype)
        shown = denormalize(images, MEAN, STD)
        assert shown.shape == (2, 3, height, width)
        assert shown.dtype == torch.uint8

    def test_huge_values_do_not_overflow(self):
        image = torch.tensor([-3e38, 3e38, 0.0]).reshape(1, 1, 3)
        assert denormalize(image, (0.0,), (1.0,))[0].tolist() == [[0, 255, 128]]

    def test_flat_images(self):
        assert denormalize(torch.full((1, 2, 2), 77.0), (0.0,), (1.0,), stretch=True).unique().tolist() == [128]
        assert denormalize(torch.zeros(3, 1, 1), MEAN, STD).flatten().tolist() == [124, 116, 104]

    def test_no_images(self):
        assert denormalize(torch.zeros(0, 3, 4, 4), MEAN, STD).shape == (0, 3, 4, 4)

    @pytest.mark.parametrize(
        ("images", "mean", "std", "message"),
        [
            (torch.zeros(4, 4), MEAN, STD, "`images`.*shape"),
            (torch.full((3, 2, 2), float("nan")), MEAN, STD, "`images` to be finite"),
            (torch.zeros(3, 2, 2), (), (), "one value each"),
            (torch.zeros(3, 2, 2), (0.5,), STD, "got 1 and 3"),
            (torch.zeros(3, 2, 2), (0.5,), (0.0,), "`std` positive"),
            (torch.zeros(3, 2, 2), (float("nan"),), (1.0,), "`mean` finite"),
        ],
    )
    def test_bad_input(self, images, mean, std, message):
        with pytest.raises(ValueError, match=message):
            denormalize(images, mean, std)

    def test_a_forced_mean_must_match_the_channels(self):
        with pytest.raises(ValueError, match="1 or 4 values"):
            denormalize(torch.zeros(4, 2, 2), MEAN, STD, stretch=False)


HALF = (0.5,)


class TestMisfit:
    @pytest.mark.parametrize(
        ("images", "mean", "std", "words"),
        [
            (_photos() * 255, MEAN, STD, ["from 0 to 255", "mean=(0,), std=(0.00392,)"]),
            (_photos(quantised=True) * 255, (0.0,), (1.0,), ["255", "0.00392"]),
            ((_photos() > 0.97) * 255.0, HALF, HALF, ["0.00392"]),  # nearly all black
            (_photos(), MEAN, STD, ["from 0 to 1", "mean=(0,), std=(1,)"]),
            (_photos(quantised=True), MEAN, STD, ["mean=(0,), std=(1,)"]),
            (_photos(), HALF, HALF, ["mean=(0,), std=(1,)"]),
            (_photos(0.05, 0.8), MEAN, STD, ["mean=(0,), std=(1,)"]),
            (_photos() * 2 - 1, MEAN, STD, ["from -1 to 1", "mean=(0.5,), std=(0.5,)"]),
            (_photos() * 2 - 1, (0.0,), (1.0,), ["mean=(0.5,), std=(0.5,)"]),
            (_normalised(_photos()), HALF, HALF, ["mean=(0.5,), std=(0.5,)", "your own transforms"]),
            (_normalised(_photos()), (0.0,), (1.0,), ["your own transforms", "1 or 3 values"]),
            (_normalised(_photos()), (123.7, 116.3, 103.5), (58.4, 57.1, 57.4), ["0..255", "divide both by 255"]),
            (_photos() * 255 - 120, (120.0,), (1.0,), ["divide both by 255"]),
            (_photos(channels=1), MEAN, STD, ["1 channel,", "3 values", "mean=(0,), std=(1,)"]),
            (_normalised(_photos(channels=4), HALF, HALF), MEAN, STD, ["4 channels"]),
            (list(_photos()), MEAN, STD, ["mean=(0,), std=(1,)"]),
        ],
    )
    def test_what_does_not_fit(self, images, mean, std, words):
        sentence = normalization_misfit(images, mean, std)
        assert sentence is not None
        assert all(word in sentence for word in words), sentence
        assert sentence.endswith(".")

    @pytest.mark.parametrize("quantised", [True, False])
    @pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.2), (0, 0.02), (0.8, 1), (0.98, 1), (0.6, 1), (0.4, 0.6)])
    @pytest.mark.parametrize(
        ("mean", "std"), [(MEAN, STD), (HALF, HALF), ((0.0,), (1.0,)), ((0.4914, 0.4822, 0.4465), (0.2, 0.2, 0.2))]
    )
    def test_ordinary_dark_and_bright_photos_fit(self, low, high, quantised, mean, std):
        images = _normalised(_photos(low, high, quantised=quantised), mean, std)
        assert normalization_misfit(images, mean, std) is None
        assert normalization_misfit(images[:1], mean, std) is None
        assert normalization_misfit(images.half(), mean, std) is None

    def test_raw_pixels_with_the_advised_mean_and_std_fit(self):
        assert normalization_misfit(_photos(quantised=True) * 255, (0.0,), (0.00392,)) is None
        assert normalization_misfit((_photos() * 255).to(torch.uint8), (0,), (1 / 255,)) is None

    def test_the_advice_helps(self):
        assert normalization_misfit(_photos() * 2 - 1, (0.5,), (0.5,)) is None
        assert normalization_misfit(_photos(), (0,), (1,)) is None

    def test_pixels_of_eight_bits_are_recognised(self):
        bright = (_photos(0.5, 1, quantised=True) - 0.5) / 0.5  # in [0, 1], but it comes back to 8-bit pixels
        assert bright.min() < 0.01  # as raw pixels would be
        assert normalization_misfit(bright, HALF, HALF) is None
        assert normalization_misfit(torch.zeros(2, 3, 4, 4), MEAN, STD) is None

    def test_a_little_overshoot_and_noise_are_fine(self):
        images = _normalised(_photos(-0.01, 1.01))
        images[0, :, :6, :6] = 40 * torch.randn(3, 6, 6)  # an erased patch
        assert normalization_misfit(images, MEAN, STD) is None

    def test_images_of_different_sizes(self):
        images = list(_normalised(_photos()))
        assert normalization_misfit([images[0], images[1][:, :5, :7]], MEAN, STD) is None

    def test_nothing_seen(self):
        assert normalization_misfit([], MEAN, STD) is None
        assert normalization_misfit(torch.zeros(0, 3, 2, 2), MEAN, STD) is None

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            ([torch.zeros(3, 2, 2), torch.zeros(1, 2, 2)], r"channels.*\[3, 1\]"),
            (torch.full((1, 3, 2, 2), float("inf")), "finite"),
            (["photo.jpg"], "`images`.*str"),
        ],
    )
    def test_bad_input(self, images, message):
        with pytest.raises(ValueError, match=message):
            normalization_misfit(images, MEAN, STD)
