"""`sess-lightning benchmark runtime` in small: what it counts and what it writes."""

import csv

import pytest
import torch
from torch import nn

from sess_lightning.benchmark import runtime as module
from sess_lightning.cli import main
from sess_lightning.saliency import RISE


class Tiny(nn.Module):
    """Two convolutions and a head."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, 4, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


@pytest.fixture
def tiny(monkeypatch):
    model = Tiny()
    monkeypatch.setattr(module, "WINDOW", 64)
    monkeypatch.setattr(module.torchvision.models, "get_model", lambda name, weights: model)
    return model


def test_writes_a_row_for_each_setting(tiny, tmp_path, capsys):
    command = "benchmark runtime --model tiny --methods gradcam,guidedbp --scales 1,3 --ratios 0,0.5 --repeats 1"
    main(
        [
            *command.split(),
            "--image_size",
            "64x96",
            "--images",
            "2",
            "--metric_images",
            "3",
            "--alone",
            "smoothgrad,scorecam",
            "--out",
            str(tmp_path / "new"),
        ]
    )
    with (tmp_path / "new" / "runtime.csv").open() as file:
        *rows, smooth, score, metric = csv.DictReader(file)
    assert (smooth["method"], score["method"]) == ("smoothgrad", "scorecam")
    assert float(smooth["alone s"]) > 0
    assert score["s"] == score["patches"] == ""
    assert metric["method"] == "insertion + deletion of 3"
    assert float(metric["patches"]) == 58
    assert float(metric["s / bare s"]) > 0
    assert metric["kept"] == ""
    settings = [(r["method"], r["scales"], r["r"]) for r in rows]
    assert settings == [  # Grad-CAM gives scores and maps in one pass: its cost does not depend on r
        ("gradcam", "1", "0.0"), ("gradcam", "3", "0.0"),
        ("guidedbp", "1", "0.0"), ("guidedbp", "1", "0.5"), ("guidedbp", "3", "0.0"), ("guidedbp", "3", "0.5"),
    ]  # fmt: skip
    assert [float(r["patches"]) for r in rows] == [2, 2 + 4 + 6, 2, 2, 12, 12]
    assert [float(r["kept"]) for r in rows] == [2, 12, 2, 1, 12, 6]
    assert all(float(r["s"]) > 0 and float(r["bare s"]) > 0 and float(r["alone s"]) > 0 for r in rows)
    assert all(0 < float(r["own work"]) < 1 for r in rows)
    printed = capsys.readouterr().out
    assert (tmp_path / "new" / "runtime.md").read_text().strip() in printed
    assert "`tiny`, 2 images of 64x96, cpu with 1 threads, float32, medians of 1" in printed


@pytest.mark.parametrize(
    ("method", "ratio", "forwards"),
    [("gradcam", 0.0, 10), ("guidedbp", 0.0, 4), ("guidedbp", 0.5, 14), ("groupcam", 0.0, 4 * 8),
     ("groupcam", 0.5, 10 + 4 * 8), (RISE(num_masks=40), 0.5, 10 + 4 * 40)],
)  # fmt: skip
def test_the_floor_is_the_passes_that_nobody_could_do_without(tiny, method, ratio, forwards):
    """The layer has six channels: Group-CAM makes a group of each, and shows the image and the blurred one besides."""
    setting = module._Setting.of("tiny", 1, "64x64", None, "cpu", "32")
    explainer = module.resolve_method(method)
    explainer(tiny, torch.rand(1, 3, 64, 64), torch.tensor([0]))
    bare = setting._bare(explainer, 10, 4, ratio, 8, "channels_last")
    seen = []
    tiny.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    bare()
    assert sum(seen) == forwards


def test_nothing_of_the_timing_stays(tiny, tmp_path):
    module.runtime(
        "tiny", "gradcam", "1", "0", repeats=1, image_size="64x64", metric_images=0, out=str(tmp_path), precision="bf16"
    )
    assert "forward" not in vars(tiny)
    with pytest.raises(ValueError, match=r"`precision` to be one of \('32', 'tf32', 'bf16'\), but got '16'"):
        module.runtime(precision="16", out=str(tmp_path))


def test_best_forward_is_one_of_the_choices(tiny):
    count, memory_format = module._Setting.of("tiny", 1, "64x64", None, "cpu", "32").best_forward()
    assert count in (1, 4, 8, 16, 64)
    assert memory_format in ("contiguous", "channels_last")
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("precision", "said"), [("32", "float32"), ("tf32", "TF32"), ("bf16", "bf16 autocast")])
def test_precisions(tiny, tmp_path, precision, said):
    """TF32 is for GPUs; here it shows that what torch was set to is set again."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    seen = []
    tiny.register_forward_hook(
        lambda *_: seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
    )
    words = "benchmark runtime --model tiny --methods gradcam --scales 1 --ratios 0 --repeats 1 --metric_images 0"
    assert main([*words.split(), "--precision", precision, "--accelerator", "cpu", "--out", str(tmp_path)]) == 0
    assert f", {said}, medians of 1" in (tmp_path / "runtime.md").read_text()
    assert set(seen) == {(precision == "tf32",) * 2}
    assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == before


def test_compiled(tiny, tmp_path, monkeypatch):
    """The network is compiled once; SESS's patches and bare passes run through it alike."""
    calls = []
    monkeypatch.setattr(tiny, "compile", lambda: calls.append("compiled"))
    words = "benchmark runtime --model tiny --methods gradcam --scales 1 --ratios 0 --repeats 1 --metric_images 0"
    assert main([*words.split(), "--compile=true", "--accelerator", "cpu", "--out", str(tmp_path)]) == 0
    assert ", compiled, medians" in (tmp_path / "runtime.md").read_text()
    assert calls == ["compiled"]
