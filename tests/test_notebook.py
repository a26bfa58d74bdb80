"""The notebook runs from top to bottom on a drawn picture and shows its pictures.

Needs nbclient and ipykernel, pip install -e '.[test,notebook]', and is slow: pytest -m slow tests/test_notebook.py
"""

import json
import os

import pytest
from PIL import Image

from tests.helpers.nets import seeded


@pytest.fixture
def notebook(root):
    return json.loads((root / "examples" / "explain_photo.ipynb").read_text())


def test_no_outputs_are_committed(notebook):
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.slow
def test_it_runs_and_shows_pictures(root, tmp_path, monkeypatch, small_weights):
    pytest.importorskip("ipykernel")
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    Image.fromarray((seeded(0, 90, 120, 3).sigmoid() * 255).byte().numpy()).save(tmp_path / "photo.png")
    for name, value in {"PHOTO": "photo.png", "MODEL": "small_cnn", "WEIGHTS": str(small_weights)}.items():
        monkeypatch.setitem(os.environ, name, value)
    cells = nbformat.read(root / "examples" / "explain_photo.ipynb", as_version=4)
    nbclient.NotebookClient(cells, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [
        cell for cell in cells.cells if any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
    ]
    drawn = [cell for cell in cells.cells if cell.cell_type == "code" and cell.source.splitlines()[-1].startswith(
        ("TF.to_pil_image", "twelve."))]  # fmt: skip
    assert shown == drawn
    assert len(drawn) == 8
    table = next(cell for cell in cells.cells if "perturbation_curve" in cell.source).outputs[0].text.splitlines()
    numbers = [[float(word) for word in line.split()[-3:]] for line in table[1:]]
    assert len(numbers) == 3
    for insertion, deletion, overall in numbers:
        assert 0 < insertion < 1
        assert 0 < deletion < 1
        assert overall == pytest.approx(insertion - deletion, abs=0.0016)
