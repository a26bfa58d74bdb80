"""The command line: the configs as they are, and the method in all three forms that YAML knows."""

import pytest
import torch
import yaml

import sess_lightning.cli as cli
from sess_lightning.callback import SESSCallback
from sess_lightning.cli.main import SESSCLI
from sess_lightning.saliency import GradCAM


def brightness(model, images, targets):
    """A base method for the dotted path in YAML."""
    return images.mean(1)


def run(tmp_path, root, config, *overrides):
    settings = yaml.safe_load((root / "configs" / config).read_text())
    settings["trainer"]["logger"]["init_args"]["save_dir"] = str(tmp_path)
    file = tmp_path / config
    file.write_text(yaml.safe_dump(settings))
    command = "validate" if config == "photos.yaml" else "fit"
    cli.main([command, f"--config={file}", "--trainer.enable_progress_bar=false", *overrides])


SMALL = (
    "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--data.train_size=64", "--data.val_size=8",
    "--trainer.limit_val_batches=1", "--trainer.num_sanity_val_steps=0",
)  # fmt: skip


def test_quickstart_in_small(tmp_path, root, capsys):
    run(tmp_path, root, "quickstart.yaml", *SMALL)
    out = capsys.readouterr().out
    table = [line.split() for line in out.splitlines()]
    assert ["sess", "insertion", "deletion", "overall", "pointing"] in table
    rows = {line[0]: line[1:] for line in table if line and line[0] in ("base", "SESS") and line[1] != "-"}
    assert all(len(rows[name]) == 4 and all(0 <= abs(float(v)) <= 1 for v in rows[name]) for name in ("base", "SESS"))
    assert f"tensorboard --logdir {tmp_path} --samples_per_plugin images=1000" in out


@pytest.mark.parametrize("form", ["gradcam", "class", "function"])
def test_the_method_in_yaml(tmp_path, root, form, monkeypatch):
    """Row 43."""
    seen = []
    monkeypatch.setattr(SESSCLI, "after_fit", lambda self: seen.append(self.trainer))
    text = (root / "configs" / "quickstart.yaml").read_text()
    method = {
        "gradcam": "method: gradcam",
        "class": "method: {class_path: sess_lightning.saliency.GradCAM, init_args: {target_layer: model.features.3}}",
        "function": "method: tests.cli.test_main.brightness",
    }[form]
    assert "method: gradcam" in text
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.yaml").write_text(text.replace("method: gradcam", method))
    run(tmp_path, tmp_path, "quickstart.yaml", *SMALL)
    (callback,) = [c for c in seen[0].callbacks if isinstance(c, SESSCallback)]
    if form == "function":
        assert callback.sess.method is brightness
    else:
        assert isinstance(callback.sess.method, GradCAM)
        assert callback.sess.method.target_layer == ("model.features.3" if form == "class" else None)


def test_the_summary_leaves_out_what_was_not_measured():
    class Trainer:
        callbacks = [SESSCallback()]  # noqa: RUF012
        loggers = []  # noqa: RUF012
        callback_metrics = {"sess/pointing_acc": torch.tensor(0.5)}  # noqa: RUF012

    lines = [line.split() for line in cli.summary(Trainer()).splitlines() if line]
    assert lines == [["sess", "pointing"], ["base", "-"], ["SESS", "0.500"]]


@pytest.mark.parametrize("name", ["insertion-deletion", "pointing", "ablation", "sanity"])
def test_benchmarks_explain_the_options_that_they_share(name, capsys):
    """Flat, with the words of `PhotoOptions`, whose argument itself is no option."""
    with pytest.raises(SystemExit) as end:
        cli.main(["benchmark", name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    assert "--limit LIMIT so many photos, chosen by the seed" in text
    assert f"--out OUT folder for {name}.csv" in text
    assert "--options" not in text


@pytest.mark.slow
def test_photos_on_real_ones(tmp_path, root, real, capsys):
    run(
        tmp_path, root, "photos.yaml", f"--data.root={real / 'ilsvrc_boxed'}", "--data.batch_size=2",
        f"--model.weights={real / 'mobilenet_v2.pth'}", "--data.limit=2",
    )  # fmt: skip
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["sess", "pointing"] in table
