"""ImageNet from trees in its folder layout that the tests write: labels, choice by a seed, and what is missing."""

import pytest
import torch

from sess_lightning.data import ImageNet
from tests.helpers.data_trees import break_photo, write_imagenet

FEW = r"holds 3 of ImageNet's 1000 classes"


def ready(root, **options):
    data = ImageNet(str(root), **options)
    data.setup()
    return data


@pytest.fixture
def tree(tmp_path):
    return write_imagenet(tmp_path, {"n02119789": 1, "n01440764": 2, "n15075141": 3})


def test_labels_are_the_order_of_the_folders(tree):
    with pytest.warns(UserWarning, match=FEW):
        data = ready(tree, batch_size=6)
    ((images, labels),) = data.val_dataloader()
    assert [tuple(image.shape) for image in images] == [(3, 70 + i, 90) for i in (0, 1, 0, 0, 1, 2)]
    assert torch.equal(labels, torch.tensor([0, 0, 1, 2, 2, 2]))
    assert data.class_names == {0: "n01440764", 1: "n02119789", 2: "n15075141"}


def test_all_classes_have_names(tmp_path):
    for number in range(1000):
        photo = tmp_path / "val" / f"n{number:08d}" / "a.JPEG"
        photo.parent.mkdir(parents=True)
        photo.touch()
    names = ready(tmp_path).class_names
    assert (len(names), names[0], names[999]) == (1000, "tench", "toilet tissue")


@pytest.mark.filterwarnings(f"ignore:.*{FEW}")
def test_some_photos_by_a_seed(tmp_path):
    write_imagenet(tmp_path, {"n01440764": 5, "n02119789": 5, "n15075141": 5})
    found = []
    for seed in (0, 0, 1):
        ((images, labels),) = ready(tmp_path, limit=4, seed=seed, batch_size=4).val_dataloader()
        found.append([(label, image.shape[1]) for image, label in zip(images, labels.tolist(), strict=True)])
    assert found[0] == found[1] != found[2]
    assert all(one == sorted(set(one)) and len(one) == 4 for one in found)


def test_limit_is_checked():
    with pytest.raises(ValueError, match=r"`limit` to be a positive int or None, but got 0"):
        ImageNet("imagenet", limit=0)


def test_no_val_folder(tree):
    (tree / "val").rename(tree / "validation")
    with pytest.raises(ValueError, match=r"Found no .*val\. Expected a folder with val/"):
        ready(tree)


def test_photos_without_class_folders(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    with pytest.raises(ValueError, match=r"any class folder.*docs/data\.md says how to sort them"):
        ready(tmp_path)


@pytest.mark.parametrize(("folder", "said"), [("cats", "found cats"), ("n99999999", "n99999999")])
def test_a_strange_or_an_empty_folder(tree, folder, said):
    (tree / "val" / folder).mkdir()
    if folder == "cats":
        (tree / "val" / folder / "cat.jpg").touch()
    with pytest.raises(ValueError, match=said):
        ready(tree)


@pytest.mark.filterwarnings(f"ignore:.*{FEW}")
def test_a_broken_photo_is_named(tree):
    break_photo(tree / "val" / "n02119789" / "ILSVRC2012_val_00000000.JPEG")
    with pytest.raises(ValueError, match=r"Could not read the photo .*n02119789.ILSVRC2012_val_00000000\.JPEG"):
        list(ready(tree).val_dataloader())
