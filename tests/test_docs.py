"""The pages of docs/ are true: their Python runs, what they name exists, and the site is built without a warning.

The site needs pip install -e '.[test,docs]' and is slow: pytest -m slow tests/test_docs.py
"""

import importlib
import re
import subprocess
import sys
from importlib.util import find_spec
from inspect import signature
from pathlib import Path

import pytest

from sess_lightning import SESS

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))
NEEDS_FILES = {"data"}  # its Python reads weights that are not part of the project
PACKAGES = ("sess_lightning", "sess_lightning.saliency", "sess_lightning.metrics", "sess_lightning.data",
            "sess_lightning.render")  # fmt: skip


def python_of(page):
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if python_of(page) and page.stem not in NEEDS_FILES], ids=lambda page: page.stem
)
def test_snippets_run(page):
    """One after the other, as a reader types them."""
    names = {}
    for snippet in python_of(page):
        if "captum" in snippet:
            pytest.importorskip("captum")
        exec(snippet, names)  # noqa: S102


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_files_that_are_named_exist(page, root):
    for path in re.findall(r"(?<![\w/.-])(?:examples|configs)/\w+\.\w+", page.read_text()):
        assert (root / path).is_file(), path


def test_settings_are_those_of_sess():
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", (DOCS / "how-it-works.md").read_text(), flags=re.MULTILINE)
    parameters = signature(SESS).parameters
    assert {name for name, _ in rows} == set(parameters)
    for name, default in rows:
        found = parameters[name].default
        literal = default.strip("`").replace('"', "")
        if found is not None:
            assert literal == (f"{found:g}" if isinstance(found, float) else str(found)), name


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mkdocs") is None or find_spec("mkdocstrings") is None, reason="needs the extra docs")
def test_the_site_is_built_without_a_warning(root, tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr[-3000:]
    pages = {path: path.read_text() for path in (tmp_path / "site").rglob("*.html")}
    html = "\n".join(pages.values())
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            if not callable(getattr(module, name)):
                continue  # constants have no docstring
            assert f'id="{package}.{name}"' in html, f"{package}.{name} has no entry"
    loaded = re.findall(r'<(?:script|link|img)\b[^>]*\b(?:src|href)="(https?:[^"]+)"', html)
    assert loaded == []  # read offline: nothing comes from another host
