"""Class names without asking: where they are found, what is passed over, what a user gives."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from sess_lightning.callback.class_name_search import found_class_names, given_class_names, names_of_data
from tests.helpers.training import Module

ANIMALS, FRUIT = ["newt", "owl", "pika"], ["fig", "lime"]


class Data(Dataset):
    """Three samples, and attributes as given."""

    def __init__(self, **attributes):
        vars(self).update(attributes)

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return torch.zeros(3, 4, 4), i


class Wrapper(Data):
    """As a user writes one to add transforms."""


class Raising(Data):
    @property
    def classes(self):
        raise RuntimeError("not downloaded")


class Failing:
    def __getattr__(self, name):
        raise RuntimeError(f"no {name}")


class Configured(nn.Module):
    def __init__(self, config, **attributes):
        super().__init__()
        self.config = config
        vars(self).update(attributes)


def found(*data, module=None, datamodule=None):
    trainer = SimpleNamespace(lightning_module=module or Module(), datamodule=datamodule)
    return found_class_names(trainer, [DataLoader(one) for one in data])


def module_with(part=None, **attributes):
    module = Module()
    if part is not None:
        module.part = part
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (Data(classes=ANIMALS), ANIMALS),
        (Data(class_names={0: "newt", 1: "owl", 2: "pika"}), ANIMALS),
        (Subset(Subset(Data(classes=ANIMALS), [0, 1]), [0]), ANIMALS),
        (Wrapper(dataset=Subset(Data(classes=ANIMALS), [2])), ANIMALS),
        (ConcatDataset([Data(classes=ANIMALS), Subset(Data(class_names=ANIMALS), [0])]), ANIMALS),
        (ConcatDataset([Data(), Data(classes=ANIMALS)]), ANIMALS),
        (ConcatDataset([Data(classes=FRUIT), Data(classes=ANIMALS)]), None),  # class 0 has no one name
        (Data(classes=[("newt", "Triturus"), ("owl",), ("pika", "rock rabbit")]), ANIMALS),  # torchvision's ImageNet
        (Data(classes=3), None),
        (Data(classes=[0, 1, 2]), None),
        (Data(classes=[3, 7]), ["3", "7"]),  # two of ten digits
        (Data(classes=torch.arange(3)), None),
        (Data(classes=nn.Linear(1, 1), class_names="newt"), None),
        (Data(classes=3, class_names=ANIMALS), ANIMALS),
        (Raising(class_names=ANIMALS), ANIMALS),
        (Raising(), None),
    ],
)
def test_names_of_data_sets(data, names):
    assert found(data).names == (None if names is None else dict(enumerate(names)))


@pytest.mark.parametrize("attribute", ["dataset", "datasets"])
def test_a_data_set_that_holds_itself_ends(attribute):
    circle = Wrapper()
    setattr(circle, attribute, circle if attribute == "dataset" else [circle])
    assert names_of_data(circle) is None


def test_the_order_of_the_places():
    """The data module speaks of the task itself; a model's configuration may be left over from another."""
    config = SimpleNamespace(id2label=dict(enumerate(["kiwi", "plum"])))
    named = module_with(Configured(config), class_names=["ash", "elm"])
    everything = found(Data(), Data(classes=ANIMALS), module=named, datamodule=SimpleNamespace(class_names=FRUIT))
    assert everything.names == dict(enumerate(FRUIT))
    assert str(everything) == "2, from datamodule.class_names: fig, lime"
    assert str(found(Data(), Data(classes=ANIMALS), module=named)) == "3, from Data.classes: newt, owl, pika"
    assert str(found(Data(), module=named)) == "2, from module.class_names: ash, elm"
    assert found(module=module_with(Configured(config))).names == {0: "kiwi", 1: "plum"}
    assert str(found(module=Module())) == "none found"
    assert found(module=module_with(Configured(Failing()))).names is None


def test_hyperparameters_name_the_classes():
    module = Module()
    module.save_hyperparameters({"classes": 2, "class_names": FRUIT})
    assert str(found(module=module)) == "2, from module.hparams.class_names: fig, lime"


def test_configurations_of_hugging_face():
    """Placeholders are no names; a backbone's labels are those of the checkpoint it came from, whatever head it got."""
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        hidden_sizes=[8], depths=[1], embedding_size=8, id2label=dict(enumerate(ANIMALS))
    )
    with torch.random.fork_rng():
        whole, backbone = transformers.ResNetForImageClassification(config), transformers.ResNetModel(config)
        unnamed = transformers.ResNetForImageClassification(
            transformers.ResNetConfig(hidden_sizes=[8], depths=[1], embedding_size=8)
        )
    assert found(module=module_with(whole)).names == dict(enumerate(ANIMALS))
    assert found(module=module_with(backbone)).names is None
    assert found(module=module_with(unnamed)).names is None


def test_many_names_are_shortened():
    assert str(found(Data(classes=[f"c{i}" for i in range(40)]))).endswith(": c0, c1, c2, c3, c4, c5, c6, c7, ...")


def test_names_that_are_given(tmp_path):
    (tmp_path / "names.txt").write_text("fig\nlime\n")
    (tmp_path / "names.json").write_text(json.dumps({"fig": 0, "lime": 1}))
    for given in (FRUIT, tuple(FRUIT), {0: "fig", 1: "lime"}, tmp_path / "names.txt", str(tmp_path / "names.json")):
        assert given_class_names(given).names == dict(enumerate(FRUIT))
    assert given_class_names(None) is None


@pytest.mark.parametrize("given", [3, [], {}, [1.5], object(), {"fig": "lime"}])
def test_what_are_no_names_is_refused(given):
    with pytest.raises(ValueError, match=r"Expected argument `class_names` to be .*but got"):
        given_class_names(given)


def test_a_file_of_names_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"Expected argument `class_names` .*could not read .*no\.txt"):
        given_class_names(tmp_path / "no.txt")
