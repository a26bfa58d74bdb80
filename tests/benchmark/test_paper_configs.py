"""The configs of the paper's settings run, here on a small network and small photos."""

import csv

import numpy as np
import pytest
import yaml

from sess_lightning.cli import main
from tests.helpers.photo_folder import write_photos


@pytest.mark.parametrize(
    ("config", "command", "settings"),
    [
        ("paper_table1", "insertion-deletion", 2 * 3),
        ("paper_table3", "pointing", 2 * 3),
        ("paper_ablations", "ablation", 12 + 10 + 2 + 2 + 3),
    ],
)
def test_a_table(benchmark_words, root, tmp_path, config, command, settings):
    photos, out = write_photos(tmp_path / "photos", 2), tmp_path / "out"
    words = benchmark_words(command, photos, out, limit=1)
    main([*words[:2], f"--config={root / 'configs' / config}.yaml", *words[2:]])
    with (out / f"{command}.csv").open() as file:
        rows = list(csv.DictReader(file))
    asked = len({row.get("class") for row in rows}) if command == "pointing" else 1
    assert len(rows) == settings * asked


def test_pictures(small_weights, root, tmp_path):
    photos, maps = write_photos(tmp_path / "photos", 2), tmp_path / "maps"
    settings = yaml.safe_load((root / "configs" / "paper_pictures.yaml").read_text())
    settings["model"]["init_args"] |= {
        "model": "small_cnn", "num_classes": 3, "input_size": 64, "weights": str(small_weights)
    }  # fmt: skip
    settings["trainer"]["logger"]["init_args"]["save_dir"] = str(tmp_path)
    settings["trainer"]["accelerator"] = "cpu"
    options = settings["trainer"]["callbacks"][0]["init_args"]
    options["save_dir"] = str(maps)
    options["sess"]["init_args"]["window_size"] = 64
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    main(["validate", f"--config={tmp_path / 'config.yaml'}", f"--data.root={photos}"])
    (archive,) = maps.glob("*/*.npz")
    with np.load(archive) as found:
        assert found["map_0"].shape == found["map_1"].shape == (80, 100)
