"""LitClassifier: networks by name, weights from disk, and steps on every kind of batch."""

import lightning.pytorch as pl
import pytest
import torch
import torchvision

from sess_lightning.classifier import LitClassifier
from sess_lightning.data import CocoPhotos, ShapeScenes
from tests.helpers.nets import seeded


def small(**options):
    return LitClassifier(**{"model": "small_cnn", "num_classes": 6, "input_size": 64, **options})


def trainer(tmp_path, **options):
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return pl.Trainer(default_root_dir=tmp_path, accelerator="cpu", **quiet, **options)


def batches(*several):
    return torch.utils.data.DataLoader(several, batch_size=None)


def scenes(**options):
    return ShapeScenes(**{"train_size": 16, "val_size": 8, "batch_size": 8, **options})


def test_small_cnn_keeps_a_grid_for_maps():
    classifier = small().eval()
    assert classifier(seeded(0, 2, 3, 64, 64)).shape == (2, 6)
    assert min(classifier.model.features(seeded(0, 2, 3, 64, 64)).shape[2:]) >= 8


def test_a_torchvision_network_by_name():
    classifier = LitClassifier("squeezenet1_1", num_classes=5).eval()
    assert isinstance(classifier.model, torchvision.models.SqueezeNet)
    assert classifier(seeded(0, 1, 3, 64, 64)).shape == (1, 5)


def test_unknown_network():
    with pytest.raises(ValueError, match=r"`model`.*'resnet55'.*resnet50"):
        LitClassifier("resnet55")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_from_a_path(tmp_path, dtype):
    saved = small()
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in saved.model.state_dict().items()}
    torch.save(state, tmp_path / "weights.pth")
    loaded = small(weights=str(tmp_path / "weights.pth"))
    for key, value in loaded.model.state_dict().items():
        assert value.dtype == saved.model.state_dict()[key].dtype
        torch.testing.assert_close(value, state[key].to(value.dtype))


def test_weights_that_are_missing(tmp_path):
    with pytest.raises(ValueError, match=r"`weights`.*found no file .*nowhere\.pth"):
        small(weights=str(tmp_path / "nowhere.pth"))


def test_weights_of_another_network(tmp_path):
    torch.save(small(num_classes=9).model.state_dict(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"(?s)weights\.pth do not fit 'small_cnn'.*num_classes.*size mismatch"):
        small(weights=str(tmp_path / "weights.pth"))


@pytest.mark.parametrize("content", [b"no weights at all", b""])
def test_a_file_that_holds_no_weights(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.pth.*state_dict"):
        small(weights=str(tmp_path / "weights.pth"))


def test_weights_that_would_run_code_are_refused(tmp_path):
    torch.save(small(), tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"(?s)weights\.pth.*state_dict"):
        small(weights=str(tmp_path / "weights.pth"))


def test_named_weights_need_a_torchvision_network():
    with pytest.raises(ValueError, match=r"`weights`.*small_cnn"):
        small(weights="DEFAULT")


def test_unknown_named_weights():
    with pytest.raises(ValueError, match=r"`weights`.*DEFAULT, IMAGENET1K_V1.*'BEST'"):
        LitClassifier("resnet18", weights="BEST")


def test_fit_and_test_on_scenes(tmp_path):
    runner = trainer(tmp_path, max_epochs=1)
    classifier = small()
    before = {key: value.clone() for key, value in classifier.model.named_parameters()}
    runner.fit(classifier, datamodule=scenes())
    assert {"train_loss", "train_acc", "val_loss", "val_acc"} <= set(runner.callback_metrics)
    assert all(not torch.equal(value, before[key]) for key, value in classifier.model.named_parameters())
    assert runner.global_step == 2
    ((result),) = runner.test(classifier, datamodule=scenes(), verbose=False)
    assert set(result) == {"test_loss", "test_acc"}


def test_fast_dev_run(tmp_path):
    trainer(tmp_path, fast_dev_run=True).fit(small(), datamodule=scenes())


def test_it_learns_two_colours():
    """Eight steps by hand: red against blue must be no problem."""
    torch.manual_seed(0)
    classifier = small(num_classes=2).train()
    labels = torch.arange(16) % 2
    images = seeded(0, 16, 3, 64, 64) * 0.1
    images[labels == 0, 0] += 1
    images[labels == 1, 2] += 1
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = classifier.training_step((images, labels), 0)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


def test_validation_accuracy_is_that_of_the_squashed_images(tmp_path):
    classifier, data = small(), scenes()
    (logged,) = trainer(tmp_path).validate(classifier, datamodule=data, verbose=False)
    ((images, targets),) = data.val_dataloader()
    squashed = torch.nn.functional.interpolate(images, (64, 64), mode="bilinear", antialias=True)
    labels = torch.stack([target["label"] for target in targets])
    with torch.no_grad():
        logits = classifier.eval()(squashed)
    assert logged["val_acc"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))
    assert logged["val_loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), rel=1e-4)


def test_images_of_different_sizes_and_unknown_labels(tmp_path):
    images = [seeded(1, 3, 40, 90), seeded(2, 3, 64, 64), seeded(3, 3, 100, 30)]
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    known = {"boxes": torch.tensor([[0.0, 0, 9, 9]]), "labels": torch.tensor([1])}
    (both,) = trainer(tmp_path).validate(small(num_classes=2), batches((images, [known, empty, known])), verbose=False)
    assert 0 <= both["val_acc"] <= 1
    (none,) = trainer(tmp_path).validate(small(), batches((images[:1], [empty])), verbose=False)
    assert none == {}


def test_several_loaders(tmp_path):
    images, labels = seeded(1, 2, 3, 64, 64), torch.tensor([0, 1])
    first, second = trainer(tmp_path).validate(small(), [batches((images, labels))] * 2, verbose=False)
    assert set(first) == {"val_loss/dataloader_idx_0", "val_acc/dataloader_idx_0"}
    assert set(second) == {"val_loss/dataloader_idx_1", "val_acc/dataloader_idx_1"}


def test_images_without_labels_cannot_be_learnt(tmp_path):
    with pytest.raises(ValueError, match="labels"):
        trainer(tmp_path, fast_dev_run=True).fit(small(), batches(seeded(0, 2, 3, 64, 64)))


def test_real_photos_with_real_weights(real, tmp_path):
    classifier = LitClassifier("mobilenet_v2", weights=str(real / "mobilenet_v2.pth"))
    photos = CocoPhotos(str(real / "ilsvrc_boxed"), limit=8)
    (logged,) = trainer(tmp_path).validate(classifier, datamodule=photos, verbose=False)
    assert logged["val_acc"] >= 0.5
