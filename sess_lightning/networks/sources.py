"""Where networks come from by name: this package, the pointing game, torchvision, timm; and what each source can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import torchvision
from torch import Tensor, nn

from sess_lightning.data.normalisation import CAFFE_MEAN, CAFFE_STD, IMAGENET_MEAN, IMAGENET_STD
from sess_lightning.networks.pointing import POINTING_NETWORKS, POINTING_SIDE, from_published, label_names
from sess_lightning.networks.small_cnn import small_cnn
from sess_lightning.pixels import Size

SMALL_CNN = "small_cnn"
TIMM = "timm:"
_SMALL_CNN_SIDE = 64


class Expected(NamedTuple):
    """The images that a network was trained on: height and width, mean and standard deviation of the channels."""

    size: Size
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD


class Source:
    """A kind of networks. The defaults are those of one without weights to download, for ImageNet's classes."""

    advice = ""  # where weights can be had, for an error

    def names(self) -> list[str]:
        """Returns the names of all its networks."""
        raise NotImplementedError

    def knows(self, name: str) -> bool:
        """Whether `name` is one of its networks."""
        return name in self.names()

    def build(self, name: str, **options: Any) -> nn.Module:
        """Returns the network with random weights; `options` holds `num_classes`, or nothing for its default."""
        raise NotImplementedError

    def offered(self, name: str) -> list[str]:
        """Returns the names of the weights that can be downloaded."""
        return []

    def published(self, name: str, weights: str, **options: Any) -> nn.Module:
        """Returns the network with one of the weights `offered`; `options` as in `build`."""
        raise NotImplementedError

    def convert(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns a state_dict from a file under the names and in the shapes of the network."""
        return state

    def expected(self, name: str, module: nn.Module, weights: str) -> Expected:
        """Returns what images the network expects with the weights of that name."""
        raise NotImplementedError

    def class_names(self, num_classes: int) -> Mapping[int, str] | None:
        """Returns the names of so many classes, or `None` where they are not known."""
        names = torchvision.models.ResNet50_Weights.DEFAULT.meta["categories"]
        return dict(enumerate(names)) if num_classes == len(names) else None


class _Own(Source):
    """The small network of the quickstart."""

    def names(self) -> list[str]:
        return [SMALL_CNN]

    def build(self, name: str, **options: Any) -> nn.Module:
        return small_cnn(options.get("num_classes", 1000))

    def expected(self, name: str, module: nn.Module, weights: str) -> Expected:
        return Expected((_SMALL_CNN_SIDE, _SMALL_CNN_SIDE))


class _Pointing(Source):
    """The networks of the pointing game, whose published weights are in Caffe's layout."""

    advice = " docs/data.md says where its weights are."

    def names(self) -> list[str]:
        return list(POINTING_NETWORKS)

    def build(self, name: str, **options: Any) -> nn.Module:
        return POINTING_NETWORKS[name](**options)

    def convert(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return from_published(state)

    def expected(self, name: str, module: nn.Module, weights: str) -> Expected:
        return Expected((POINTING_SIDE, POINTING_SIDE), CAFFE_MEAN, CAFFE_STD)

    def class_names(self, num_classes: int) -> Mapping[int, str] | None:
        return label_names(num_classes)


class _Torchvision(Source):
    """The classifiers of torchvision."""

    def names(self) -> list[str]:
        return torchvision.models.list_models(module=torchvision.models)

    def build(self, name: str, **options: Any) -> nn.Module:
        return torchvision.models.get_model(name, **options)

    def offered(self, name: str) -> list[str]:
        return ["DEFAULT", *(weights.name for weights in torchvision.models.get_model_weights(name))]

    def published(self, name: str, weights: str, **options: Any) -> nn.Module:
        return torchvision.models.get_model(name, weights=weights, **options)

    def expected(self, name: str, module: nn.Module, weights: str) -> Expected:
        transforms = torchvision.models.get_model_weights(name)[weights].transforms()
        side = getattr(module, "image_size", transforms.crop_size[0])  # a vision transformer has one size only
        return Expected((side, side), transforms.mean, transforms.std)


class _Timm(Source):
    """The models of timm, if it is installed; their names begin with `timm:`."""

    def names(self) -> list[str]:
        if not has_timm():
            return []
        import timm

        return timm.list_models()

    def knows(self, name: str) -> bool:
        if not has_timm():
            return False
        import timm

        return timm.is_model(name.removeprefix(TIMM))  # also with the tag of its weights behind a dot

    def build(self, name: str, **options: Any) -> nn.Module:
        import timm

        return timm.create_model(name.removeprefix(TIMM), **options)

    def offered(self, name: str) -> list[str]:
        return ["DEFAULT"]

    def published(self, name: str, weights: str, **options: Any) -> nn.Module:
        return self.build(name, pretrained=True, **options)

    def expected(self, name: str, module: nn.Module, weights: str) -> Expected:
        import timm

        config = timm.data.resolve_model_data_config(module)
        return Expected(tuple(config["input_size"][1:]), config["mean"], config["std"])


def has_timm() -> bool:
    """Whether timm is installed."""
    return find_spec("timm") is not None


TIMM_SOURCE = _Timm()
SOURCES: tuple[Source, ...] = (_Own(), _Pointing(), _Torchvision(), TIMM_SOURCE)
"""All sources; of a name that several know, the first one's network is taken."""
