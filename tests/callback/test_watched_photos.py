"""Photos of one's own in every form: what is read, normalised and named, and what is refused before training."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset
from torchvision.datasets import ImageFolder

from sess_lightning.callback.class_name_search import FoundNames
from sess_lightning.callback.watched_photos import open_photos
from sess_lightning.samples import Samples
from tests.helpers.data_trees import break_photo, write_photo
from tests.helpers.nets import seeded
from tests.helpers.photo_folder import write_photos

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.5, 0.2)
TARGET = {"boxes": torch.tensor([[1.0, 2, 8, 9], [0, 0, 4, 4]]), "labels": torch.tensor([2, 0])}


def opened(photos, names=None, **options):
    found = open_photos(photos, MEAN, STD, **options)
    found.take_names(FoundNames(None if names is None else dict(enumerate(names)), "from here"))
    return found


def everything(photos):
    return [photos[number][0] for number in range(len(photos))]


def normalised(file):
    pixels = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1) / 255
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@pytest.fixture
def folders(tmp_path):
    """Class folders: one newt, two owls, of different sizes."""
    sizes = {"owl/b.png": (30, 44), "owl/deep/a.png": (21, 20), "newt/c.png": (40, 30), ".cache/d.png": (9, 9)}
    for seed, (name, size) in enumerate(sizes.items()):
        write_photo(tmp_path / "animals" / name, *size, seed)
    return tmp_path / "animals"


class Pairs(Dataset):
    """Samples as given."""

    def __init__(self, *samples, classes=None):
        self.samples, self.classes = samples, classes

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        return self.samples[i]


def test_a_coco_folder(tmp_path):
    photos = opened(write_photos(tmp_path / "photos", 3))
    samples = everything(photos)
    assert photos.names == ["0.png", "1.png", "2.png"]
    assert photos.class_names == {0: "class 0", 1: "class 1", 2: "class 2"}
    torch.testing.assert_close(samples[1].images[0], normalised(tmp_path / "photos" / "images" / "1.png"))
    assert samples[2].objects[0]["labels"].tolist() == [2, 0]
    assert [int(one.labels[0]) for one in samples] == [1, 1, 0]  # of the largest box


def test_a_folder_of_class_folders(folders):
    photos = opened(str(folders))
    samples = everything(photos)
    assert photos.names == ["newt/c.png", "owl/b.png", "owl/deep/a.png"]
    assert [int(one.labels[0]) for one in samples] == [0, 1, 1]
    assert [tuple(one.images[0].shape) for one in samples] == [(3, 40, 30), (3, 30, 44), (3, 21, 20)]
    torch.testing.assert_close(samples[1].images[0], normalised(folders / "owl" / "b.png"))


def test_plain_photos_are_upright_and_have_no_class(folders, tmp_path):
    turned = Image.new("RGB", (12, 8), "red")
    exif = turned.getexif()
    exif[0x0112] = 6
    (tmp_path / "plain").mkdir()
    turned.save(tmp_path / "plain" / "turned.jpg", exif=exif)
    (tmp_path / "plain" / "notes.txt").write_text("no photo")
    for given in (tmp_path / "plain", tmp_path / "plain" / "turned.jpg", [str(tmp_path / "plain" / "turned.jpg")] * 2):
        (sample,) = everything(opened(given))
        assert tuple(sample.images[0].shape) == (3, 12, 8)
        assert sample.labels is None
        assert sample.objects is None
    assert len(opened([folders / "owl" / "b.png", folders / "newt" / "c.png"])) == 2


@pytest.mark.parametrize("give", [Pairs, lambda *samples: list(samples)])
def test_a_data_set_is_taken_as_it_is(give):
    images = [seeded(0, 3, 20, 30), seeded(1, 3, 24, 16), seeded(2, 3, 16, 16)]
    photos = opened(give((images[0], 1), (images[1], TARGET), (images[2], torch.tensor(3))))
    samples = everything(photos)
    for image, sample in zip(images, samples, strict=True):
        assert torch.equal(sample.images[0], image)
    assert [sample.labels.tolist() for sample in samples] == [[1], [2], [3]]
    assert torch.equal(samples[1].objects[0]["boxes"], TARGET["boxes"])
    assert photos.names == ["0", "1", "2"]


def test_bytes_are_normalised_like_files(folders):
    """What torchvision gives without transforms: PIL images; tensors of uint8 are no other."""
    file = folders / "owl" / "b.png"
    array = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
    for given in (ImageFolder(str(folders), allow_empty=True), Pairs((array, 2)), Pairs({"image": array, "label": 2})):
        sample = next(one for one in everything(opened(given)) if tuple(one.images[0].shape) == (3, 30, 44))
        torch.testing.assert_close(torch.as_tensor(sample.images[0]), normalised(file))
        assert sample.labels.tolist() == [2]  # of the data set's own order, in which ".cache" comes first


def test_samples_and_loaders():
    images = seeded(3, 6, 3, 12, 12)
    labels = torch.tensor([3, 1, 0, 2, 1, 3])
    pairs = Pairs(*zip(images, labels, strict=True))
    for given in (
        Samples(images, labels),
        DataLoader(pairs, batch_size=4, shuffle=True),
        DataLoader(Subset(pairs, range(6)), batch_size=3, drop_last=True),
    ):
        samples = everything(opened(given))
        assert torch.equal(torch.cat([one.images[0][None] for one in samples]), images)
        assert torch.cat([one.labels for one in samples]).tolist() == labels.tolist()
    sampled = opened(DataLoader(pairs, sampler=torch.utils.data.SubsetRandomSampler([4, 2])))
    assert sampled.names == ["2", "4"]
    assert [int(one.labels[0]) for one in everything(sampled)] == [0, 1]


def test_a_loader_of_unusual_batches_is_read_as_the_callback_reads_batches():
    loader = DataLoader(Pairs(("left", seeded(0, 3, 8, 8))), collate_fn=lambda items: {"odd": items[0][1][None]})
    photos = opened(loader, to_samples=lambda batch: Samples(batch["odd"]))
    sample, batch = photos[0]
    assert torch.equal(sample.images, batch["odd"])


def test_reading_draws_nothing_from_the_training(folders):
    class Drawing(Pairs):
        def __getitem__(self, i):
            return torch.rand(3, 8, 8) + np.random.rand(), 0

    torch.manual_seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    everything(opened(Drawing(0, 0)))
    everything(opened(DataLoader(Drawing(0, 0), shuffle=True)))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()


def test_classes_are_found_by_name(folders, tmp_path):
    """Whatever number the photos give a class: the model's counts."""
    names = ["Class 2", "class 1", "other", "class 0"]
    photos = opened(write_photos(tmp_path / "photos", 3), names)
    samples = everything(photos)
    assert [one.objects[0]["labels"].tolist() for one in samples] == [[3, 1], [1], [0, 3]]
    assert [int(one.labels[0]) for one in samples] == [1, 1, 3]
    assert photos.used == {3: "0.png", 1: "0.png", 0: "2.png"}
    assert [int(one.labels[0]) for one in everything(opened(folders, ["owl", "dog", "newt"]))] == [2, 0, 0]
    joined = ConcatDataset([Subset(Pairs((seeded(0, 3, 8, 8), 0), classes=["owl"]), [0])])
    assert [int(one.labels[0]) for one in everything(opened(joined, ["newt", "owl"]))] == [1]


def test_labels_that_say_nothing_stay(tmp_path):
    unknown = Pairs(*[(seeded(0, 3, 8, 8), label) for label in (-1, 255, 0)], classes=["owl"])
    assert [int(one.labels[0]) for one in everything(opened(unknown, ["newt", "owl"]))] == [-1, 255, 1]


def test_a_class_of_two_that_share_a_name(tmp_path):
    """ImageNet has two cranes: the number decides where it is one of theirs."""
    pairs = Pairs((seeded(0, 3, 8, 8), 2), (seeded(0, 3, 8, 8), 0), classes=["crane", "owl", "crane"])
    photos = opened(pairs, ["owl", "crane", "crane"])
    assert int(photos[0][0].labels[0]) == 2
    with pytest.raises(ValueError, match=r"photo 1 of Pairs: its class 'crane' may be any of the model's 1 and 2"):
        photos[1]


def test_a_class_that_the_model_lacks_by_name(tmp_path):
    photos = opened(write_photos(tmp_path / "photos", 2), ["class 0", "class ten", "klass 1"])
    said = r"photo 0\.png of .*photos: the model has no class 'class 1'; .*from here: .*Nearest: klass 1, class 0"
    with pytest.raises(ValueError, match=said):
        photos[0]


def test_a_class_without_a_name(tmp_path):
    folder = write_photos(tmp_path / "photos", 2)
    content = json.loads((folder / "annotations.json").read_text())
    content["categories"] = content["categories"][:1]
    (folder / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="class 1 has no name"):
        opened(folder, ["class 0", "class 1"])[0]
    del content["categories"]  # no names at all: the ids are the model's
    (folder / "annotations.json").write_text(json.dumps(content))
    assert opened(folder, ["class 0", "class 1"])[0][0].objects[0]["labels"].tolist() == [0, 1]


def test_a_class_that_the_model_lacks_by_number(tmp_path, folders):
    photos = opened(write_photos(tmp_path / "photos", 3))
    everything(photos)
    photos.check_outputs(3)
    with pytest.raises(ValueError, match=r"0\.\.1, but photo 2\.png of .* has class 2"):
        photos.check_outputs(1)  # which stands for two classes
    by_folder = opened(folders)
    everything(by_folder)
    by_folder.check_outputs(2)
    with pytest.raises(ValueError, match="a class folder for each of the model's 4 classes"):
        by_folder.check_outputs(4)
    by_name = opened(folders, ["owl", "dog", "cat", "newt"])
    everything(by_name)
    by_name.check_outputs(4)


class Stream(IterableDataset):
    def __iter__(self):
        yield seeded(0, 3, 8, 8), 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "but got int"),
        ({"a": 1}, "but got dict"),
        (torch.rand(2, 3, 8, 8), "but got Tensor"),
        (Stream(), r"but got Stream\. One that can only be iterated .* pass list"),
        (DataLoader(Stream()), r"its data set can only be iterated .* Pass a list"),
        (DataLoader(Pairs((seeded(0, 3, 8, 8), 0)), batch_size=None), "makes the batches itself"),
        ([], "list has none"),
        (Pairs(), "Pairs has none"),
        ("nowhere", "nowhere is not there"),
        (["nowhere.jpg", "b.png"], r"2 of 2 are not there, e\.g\. nowhere\.jpg, b\.png"),
    ],
)
def test_what_are_no_photos_is_refused(given, said):
    with pytest.raises(ValueError, match=rf"Expected argument `photos` .*{said}"):
        open_photos(given, MEAN, STD)


def test_folders_that_can_be_no_photos(tmp_path, folders):
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"the folder .*none has none"):
        open_photos(tmp_path / "none", MEAN, STD)
    write_photo(folders / "beside.png", 9, 9)
    with pytest.raises(ValueError, match=r"beside\.png lies beside folders"):
        open_photos(folders, MEAN, STD)
    (folders / "beside.png").unlink()
    (folders / "pika").mkdir()
    with pytest.raises(ValueError, match="pika has none"):
        open_photos(folders, MEAN, STD)
    (tmp_path / "half" / "images").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"Found no .*annotations\.json"):
        open_photos(tmp_path / "half", MEAN, STD)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match="pass the folder that holds it"):
        open_photos(tmp_path / "a.json", MEAN, STD)
    with pytest.raises(ValueError, match=r"`mean` to have 3 values.* got 4"):
        open_photos(folders / "newt", [0.5] * 4, [0.5] * 4)


def test_a_photo_that_cannot_be_read_is_named(tmp_path, folders):
    break_photo(folders / "owl" / "b.png")
    photos = opened(folders)
    photos[0]
    with pytest.raises(ValueError, match=r"photo owl/b\.png of 2 class folders .*Could not read the photo .*broken"):
        photos[1]
    with pytest.raises(ValueError, match=r"photo 0 of Pairs: .*floating point"):
        opened(Pairs((torch.zeros(3, 8, 8, dtype=torch.long), 0)))[0]

    class Failing(Pairs):
        def __getitem__(self, i):
            raise KeyError("lost")

    with pytest.raises(ValueError, match=r"photo 0 of Failing: KeyError 'lost'"):
        opened(Failing(0))[0]
