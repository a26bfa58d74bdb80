"""Every example runs, in small, and does what it says."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.models import get_model

from sess_lightning.data import ShapeScenes
from sess_lightning.sess import SESS
from tests.helpers.data_trees import write_photo
from tests.helpers.nets import seeded
from tests.helpers.photo_folder import write_photos

QUICK = {"max_epochs": 1, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}


@pytest.fixture
def example(root, tmp_path, monkeypatch):
    """Loads an example as a module, with `runs/` in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def load(name):
        spec = importlib.util.spec_from_file_location(f"example_{name}", root / "examples" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def scenes():
    return ShapeScenes(train_size=64, val_size=8, batch_size=32)


def test_quickstart(example, tmp_path):
    example("quickstart").main(**QUICK, limit_train_batches=2, limit_val_batches=1)
    assert list((tmp_path / "runs" / "example").rglob("events.out.tfevents.*"))


def test_monitor_pointing(example, tmp_path):
    best = example("monitor_pointing").main(scenes(), **QUICK)
    assert Path(best.best_model_path).is_file()
    assert tmp_path / "runs" / "monitor" in Path(best.best_model_path).resolve().parents
    assert f"{float(best.best_model_score):.3f}" in best.best_model_path
    assert 0 <= float(best.best_model_score) <= 1


def test_custom_batch(example):
    """A square brighter or darker than all else is found after three epochs; chance is the squares' share, a tenth."""
    found = example("custom_batch").main(**{**QUICK, "max_epochs": 3})
    assert found["sess/num_samples"] == 32
    assert found["sess/pointing_acc"] > 0.5


def test_boxes_of_the_custom_batch(example):
    """Centre (0.5, 0.25), size (0.25, 0.125), of 64 pixels: x from 24 to 40, y from 12 to 20."""
    batch = {
        "scan": torch.zeros(1, 1, 64, 64),
        "finding": ["bright"],
        "region": torch.tensor([[0.5, 0.25, 0.25, 0.125]]),
    }
    samples = example("custom_batch").to_samples(batch)
    assert samples.objects[0]["boxes"].tolist() == [[24, 12, 40, 20]]
    assert samples.labels.tolist() == [1]


def test_captum_method(example, tmp_path):
    pytest.importorskip("captum")
    file = example("captum_method").main(str(tmp_path), train_size=64, **QUICK)
    with Image.open(file) as figure:
        assert figure.width > 640


@pytest.mark.slow
def test_compare_methods(example, tmp_path, capsys):
    """A row for each method but the one that this network cannot have, which is named."""
    photo, weights = tmp_path / "photo.png", tmp_path / "weights.pth"
    Image.fromarray((seeded(0, 90, 120, 3).sigmoid() * 255).byte().numpy()).save(photo)
    torch.save(get_model("vgg11", num_classes=3).state_dict(), weights)
    words = [str(photo), "--model=vgg11", f"--weights={weights}", "--scales=224", "--out=methods.png"]
    example("compare_methods").main([*words, "--methods=gradcam,cam,gradient"])
    assert "cam is left out" in capsys.readouterr().out
    with Image.open("methods.png") as two_rows:
        assert two_rows.height < 3 * 160 < two_rows.width


def test_finetune_photos(example, tmp_path):
    folder = tmp_path / "photos"
    (folder / "images").mkdir(parents=True)
    content = {"images": [], "annotations": [], "categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]}
    for i in range(6):
        pixels = (seeded(i, 60, 80 + i, 3).sigmoid() * 255).byte().numpy()
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
        content["images"].append({"id": i, "file_name": f"{i}.png"})
        content["annotations"].append({"image_id": i, "category_id": i % 2, "bbox": [5, 5, 30, 30]})
    (folder / "annotations.json").write_text(json.dumps(content))
    module = example("finetune_photos")
    sess = SESS(num_scales=2, window_size=64)
    best = module.main(module.Photos(str(folder), 2), "resnet18", None, sess, accelerator="cpu", **QUICK)
    state = torch.load(best.best_model_path, weights_only=True)["state_dict"]
    assert state["model.fc.weight"].shape == (2, 512)


def test_finetune_class_folders(example, tmp_path):
    """The folders count the classes in another order than the photos do, which go by name."""
    for number, name in enumerate(("class 2", "class 0", "class 1")):
        for part in ("train", "val"):
            write_photo(tmp_path / "crops" / part / name / "a.png", 80, 90, number)
    photos = str(write_photos(tmp_path / "photos", 4))
    module = example("finetune_class_folders")
    best = module.main(module.Crops(str(tmp_path / "crops"), 64), photos, "resnet18", None, accelerator="cpu", **QUICK)
    assert 0 <= float(best.best_model_score) <= 1
    assert tmp_path / "runs" / "class_folders" in Path(best.best_model_path).resolve().parents


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_multi_gpu_on_two_processes(root, tmp_path):
    words = ["--devices=2", "--accelerator=cpu", "--epochs=1", "--train-size=256", "--val-size=40"]
    command = [sys.executable, str(root / "examples" / "multi_gpu.py"), *words]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "32 samples of 2 processes" in run.stdout
