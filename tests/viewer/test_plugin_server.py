"""The plugin in a real TensorBoard: it is there, and whatever is broken around it, TensorBoard starts."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

import sess_lightning
from tests.helpers.boards import fetch, server
from tests.helpers.records import RunScript, tile_of

PACKAGE = Path(sess_lightning.__file__).parent


def listing(address):
    with urlopen(f"{address}/data/plugins_listing", timeout=30) as response:  # noqa: S310
        return json.load(response)


def test_the_tab_with_its_record(tmp_path):
    script = RunScript(samples=2, validations=2)
    record = script.write(tmp_path / "logs" / "run ä" / "sess_record")
    with server(tmp_path / "logs") as address:
        found = listing(address)["sess"]
        assert found["enabled"] is True
        assert found["tab_name"] == "SESS"
        assert found["loading_mechanism"] == {"type": "IFRAME", "module_path": "/data/plugin/sess/index.js"}
        (run,) = fetch(address, "sess/runs")["runs"]
        assert (run["name"], run["error"]) == ("run ä/sess_record", None)
        script.append(record, 2)
        answer = fetch(address, "sess/record", run=run["name"])
        assert [one["number"] for one in answer["validations"]] == [0, 1, 2]
        pixels = np.array(Image.open(io.BytesIO(fetch(address, "sess/maps", run=run["name"], number=2))))
        x, y, w, h = answer["validations"][2]["maps"]["base"][1]
        assert np.array_equal(pixels[y : y + h, x : x + w], tile_of(record, 2, 1, "base"))
        assert b"export async function render" in fetch(address, "sess/index.js")
        with pytest.raises(HTTPError, match="404") as error:
            fetch(address, "sess/record", run="../../etc")
        assert "There is no run" in json.load(error.value)["error"]


def without(folder, torch, modules, static):
    """A process's options, for which these parts of the package and torch are broken."""
    copy = folder / "copy"
    shutil.copytree(PACKAGE, copy / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    if torch:
        (copy / "torch").mkdir()
        (copy / "torch" / "__init__.py").write_text("raise ImportError('planted')\n")
    for name in ("sess/algorithm.py", "callback/callback.py", "render/__init__.py") if modules else ():
        (copy / PACKAGE.name / name).write_text("def broken(:\n")
    if static:
        shutil.rmtree(copy / PACKAGE.name / "viewer" / "static")
    others = [one for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one]
    return {"env": {**os.environ, "PYTHONPATH": os.pathsep.join([str(copy), *others])}, "cwd": folder}


ALL = {"torch": True, "modules": True, "static": True}
ONE_EACH = [{**dict.fromkeys(ALL, False), name: True} for name in ALL]


@pytest.mark.parametrize(
    "broken", [ALL, *(pytest.param(one, marks=pytest.mark.slow) for one in ONE_EACH)], ids=["all", *ALL]
)
def test_tensorboard_starts_whatever_is_broken(tmp_path, broken):
    RunScript(samples=1, validations=1).write(tmp_path / "logs" / "sess_record")
    options = without(tmp_path, **broken)
    where = subprocess.run(
        [sys.executable, "-c", "import sess_lightning.viewer.plugin as one; print(one.__file__)"],
        capture_output=True, text=True, check=True, **options,
    ).stdout  # fmt: skip
    assert where.startswith(str(tmp_path))  # the broken copy is the one that TensorBoard takes, too
    with server(tmp_path / "logs", **options) as address:
        found = listing(address)
        assert {"scalars", "images", "sess"} <= set(found)
        assert found["sess"]["enabled"] is True
        assert fetch(address, "scalars/tags") == {}
        assert [run["name"] for run in fetch(address, "sess/runs")["runs"]] == ["sess_record"]
        if broken["static"]:
            with pytest.raises(HTTPError, match="404"):
                fetch(address, "sess/index.js")


def test_without_a_record_the_tab_is_not_active(tmp_path):
    with server(tmp_path) as address:
        assert listing(address)["sess"]["enabled"] is False
        assert fetch(address, "sess/runs")["runs"] == []


def test_importing_it_loads_little():
    program = (
        "import sys, tensorboard.plugins.base_plugin, werkzeug\n"
        "before = set(sys.modules)\n"
        "import sess_lightning.viewer.plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    outside = {name.partition(".")[0] for name in out} - sys.stdlib_module_names
    assert outside == {"sess_lightning"}
    assert [name for name in out if name.startswith("sess_lightning")] == [
        "sess_lightning",
        "sess_lightning.viewer",
        "sess_lightning.viewer.checks",
        "sess_lightning.viewer.plugin",
        "sess_lightning.viewer.reading",
    ]
