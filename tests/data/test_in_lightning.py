"""The named data sets under a Trainer: the callback reads their batches, from worker processes too."""

import lightning.pytorch as pl
import pytest

from sess_lightning import SESS, SESSCallback
from sess_lightning.classifier import LitClassifier
from sess_lightning.data import COCO14, VOC07, ImageNet
from tests.helpers.data_trees import voc_object, write_coco, write_imagenet, write_voc


def voc(root):
    return VOC07(write_voc(root, {"000001": (70, 90, [voc_object("dog", (1, 1, 90, 70))])}), num_workers=1)


def coco(root):
    whole = {"segmentation": [[0, 0, 90, 0, 90, 70, 0, 70]], "bbox": [0, 0, 90, 70], "iscrowd": 0}
    return COCO14(
        write_coco(root, {1: (70, 90)}, [{"id": 1, "image_id": 1, "category_id": 18, **whole}]), num_workers=1
    )


def imagenet(root):
    return ImageNet(write_imagenet(root, {"n01440764": 1}), num_workers=1)


@pytest.mark.filterwarnings("ignore:.*of ImageNet's 1000 classes")
@pytest.mark.parametrize(("data", "objects"), [(voc, True), (coco, True), (imagenet, False)])
def test_the_callback_reads_the_batches(tmp_path, data, objects):
    callback = SESSCallback(SESS(num_scales=1, window_size=64), metrics=["pointing"])
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    trainer = pl.Trainer(default_root_dir=tmp_path, accelerator="cpu", callbacks=[callback], **quiet)
    (metrics,) = trainer.validate(LitClassifier("small_cnn", 80, 64), data(tmp_path / "data"), verbose=False)
    assert metrics["sess/num_samples"] == 1
    assert metrics.get("sess/pointing_acc") == (1 if objects else None)  # the object fills the photo
    assert "val_loss" in metrics
