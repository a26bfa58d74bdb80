"""Outputs in groups: a group's probability is the share of its outputs' probabilities; bad files are said."""

import csv
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from sess_lightning.cli import main
from sess_lightning.networks import OutputGroups, grouped, load_network, read_groups
from sess_lightning.networks.small_cnn import small_cnn
from sess_lightning.sess import SESS
from tests.helpers.data_trees import write_photo
from tests.helpers.nets import seeded

GROUPS = {"pot": [4], "cup": [5, 0], "pan": [1, 2, 3]}


def file_of(tmp_path, content):
    path = tmp_path / "groups.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8-sig")
    return path


@pytest.fixture
def weights(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        torch.save(small_cnn(7).state_dict(), tmp_path / "w.pth")
    return tmp_path / "w.pth"


def room(folder):
    """Two photos: a cup and a lamp, for which there is no group; two pots and a lamp."""
    boxes = {
        1: [(10, [2, 3, 20, 20]), (30, [40, 40, 9, 9])],
        2: [(20, [0, 0, 9, 9]), (20, [50, 9, 9, 9]), (30, [9, 30, 9, 9])],
    }
    for number in boxes:
        write_photo(folder / "images" / f"{number}.png", 64, 80, number)
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "height": 64, "width": 80} for n in boxes],
        "categories": [{"id": 10, "name": "cup"}, {"id": 20, "name": "pot"}, {"id": 30, "name": "lamp"}],
        "annotations": [
            {"image_id": n, "category_id": label, "bbox": box} for n, found in boxes.items() for label, box in found
        ],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def test_a_group_is_as_probable_as_its_outputs_together():
    logits = seeded(0, 5, 7) * 4
    groups = OutputGroups(tuple(GROUPS), tuple(map(tuple, GROUPS.values())))
    single = logits.softmax(1)[:, :6]  # output 6 is in no group
    together = torch.stack([single[:, outputs].sum(1) for outputs in GROUPS.values()], 1)
    torch.testing.assert_close(groups.logits(logits).softmax(1), together / together.sum(1, keepdim=True))


def test_the_maps_are_those_of_the_sum_of_probabilities(tmp_path, weights):
    """Of a network that ends in the logarithm of the sums of its softmax, which differs by a constant of the image."""
    network = load_network("small_cnn", str(weights))
    plain = load_network("small_cnn", str(weights)).module.eval()

    class Sums(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.plain = plain

        def forward(self, images):
            weights = self.plain(images).exp()
            return torch.stack([weights[:, outputs].sum(1) for outputs in GROUPS.values()], 1).log()

    changed = grouped(network, read_groups(file_of(tmp_path, GROUPS)), (64, 64))
    assert changed.class_names == {0: "pot", 1: "cup", 2: "pan"}
    images, targets = seeded(1, 2, 3, 70, 64), torch.tensor([1, 2])
    sess = SESS(num_scales=2, window_size=64)
    torch.testing.assert_close(
        sess(changed.module.eval(), images, targets).maps, sess(Sums(), images, targets).maps, rtol=0, atol=1e-5
    )


def test_the_benchmark_asks_for_classes_with_a_group_and_the_others_distract(tmp_path, weights, benchmark_words):
    out = tmp_path / "out"
    words = benchmark_words("pointing", room(tmp_path / "room"), out, weights=weights, methods="gradcam", num_scales=1)
    assert main([*words, f"--groups={file_of(tmp_path, GROUPS)}"]) == 0
    with (out / "pointing.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["sess"] == "True"]
    asked = [(row["photo"], row["class"], row["instances"], row["distractor"]) for row in rows]
    assert [one[1:] for one in asked] == [("1", "1", "True"), ("0", "2", "True")]
    assert "difficult (2)" in (out / "pointing.md").read_text()


def test_explain_names_and_explains_a_group(tmp_path, weights, capsys):
    photo = tmp_path / "photo.png"
    Image.fromarray((seeded(2, 64, 64, 3).sigmoid() * 255).byte().numpy()).save(photo)
    words = [f"--weights={weights}", "--model=small_cnn", "--num-scales=1", f"--out={tmp_path / 'out'}"]
    assert main(["explain", *words, f"--groups={file_of(tmp_path, GROUPS)}", "--target=cup", str(photo)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"cup \(1\) <- explained", out)
    shares = [float(share) for share in re.findall(r"([\d.]+)%", out)]
    assert len(shares) == 3
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert np.load(tmp_path / "out" / "photo.npy").shape == (64, 64)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "could not read"),
        ([[1], [2]], "at least two groups"),
        ({"cup": [1]}, "at least two groups"),
        ({"cup": [1], "pot": []}, r"'pot' is \[\]"),
        ({"cup": [1, 1], "pot": [2]}, r"'cup' is \[1, 1\]"),
        ({"cup": [1], "pot": [True]}, "'pot' is"),
        ({"cup": [1], "pot": ["2"]}, "'pot' is"),
        ({"cup": [-1], "pot": [2]}, "'cup' is"),
        ({"cup": 1, "pot": [2]}, "'cup' is 1"),
        ({"cup": [1], "pot": [0, 7]}, r"outputs of the network, 0\.\.6, but group 'pot' names 7"),
    ],
)
def test_what_is_no_file_of_groups_is_said(tmp_path, weights, content, message):
    network = load_network("small_cnn", str(weights))
    with pytest.raises(ValueError, match=message):
        grouped(network, read_groups(file_of(tmp_path, content)), (64, 64))


def test_groups_without_a_class_of_the_data_are_said(tmp_path, weights, benchmark_words, capsys):
    words = benchmark_words("pointing", room(tmp_path / "room"), tmp_path / "out", weights=weights)
    assert main([*words, f"--groups={file_of(tmp_path, {'Cup': [1], 'Pot': [2]})}"]) == 2
    assert "it names 'Cup', 'Pot', and the data have 'cup', 'pot', 'lamp'" in capsys.readouterr().err


def test_a_missing_file_of_groups_ends_explain_in_words(tmp_path, weights, capsys):
    words = [f"--weights={weights}", "--model=small_cnn", f"--out={tmp_path / 'out'}", str(weights)]
    assert main(["explain", *words, f"--groups={tmp_path / 'none.json'}"]) == 2
    assert "`groups` to be a JSON file, but could not read" in capsys.readouterr().err
    (tmp_path / "names.txt").write_text("a\nb")
    both = [f"--groups={file_of(tmp_path, GROUPS)}", f"--classes={tmp_path / 'names.txt'}"]
    assert main(["explain", *words, *both]) == 2
    assert "only one of `groups`" in capsys.readouterr().err
