"""Records and reports that the tests of the viewer share."""

import json
import shutil

import numpy as np
import pytest

from sess_lightning.viewer.report import write_report
from tests.helpers.records import RunScript


@pytest.fixture(scope="module")
def colours(root):
    return np.array(
        [
            list(bytes.fromhex(one))
            for one in json.loads((root / "sess_lightning/viewer/static/colormap.json").read_text())
        ]
    )


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return RunScript().write(tmp_path_factory.mktemp("run") / "sess_record")


@pytest.fixture(scope="module")
def report(record):
    file = record.parent / "sess_report.html"
    write_report([record], file)
    return file


@pytest.fixture(scope="module")
def written(script, tmp_path_factory):
    return script.write(tmp_path_factory.mktemp("written") / "sess_record")


@pytest.fixture
def folder(written, tmp_path):
    """A record to be damaged."""
    return shutil.copytree(written, tmp_path / "logs" / "sess_record")
