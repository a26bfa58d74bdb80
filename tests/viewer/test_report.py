"""The report as a file: whole or not at all, evenly thinned, its script in one piece."""

import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sess_lightning.viewer import report
from sess_lightning.viewer.report import bundle, evenly_thinned, modules, write_report
from tests.helpers.records import RunScript

STATIC = Path(report.__file__).parent / "static"
TOP_LEVEL = re.compile(r"^(?:export )?(?:async )?(?:function\*?|class|const|let|var) (.+)", re.MULTILINE)


@pytest.fixture
def written(tmp_path):
    return RunScript(samples=2, validations=2).write(tmp_path / "run" / "sess_record")


def data_of(page):
    return json.loads(page.read_text().partition('id="sess-data">')[2].partition("</script>")[0])


class TestWholeOrNothing:
    def test_a_write_that_fails_leaves_the_old_page(self, written, tmp_path, monkeypatch):
        out = tmp_path / "out" / "page.html"
        out.parent.mkdir()
        write_report([written], out)
        old = out.read_bytes()

        def half(*parts):
            yield "<!DOCTYPE html>"
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(report, "_page", half)
        with pytest.raises(OSError, match="No space"):
            write_report([written], out)
        assert [(one.name, one.read_bytes()) for one in out.parent.iterdir()] == [("page.html", old)]

    def test_a_rename_that_fails(self, written, tmp_path, monkeypatch):
        def broken(*paths):
            raise OSError("planted")

        monkeypatch.setattr("os.replace", broken)
        with pytest.raises(OSError, match="planted"):
            write_report([written], tmp_path / "page.html")
        assert [one.name for one in tmp_path.iterdir()] == ["run"]

    def test_there_is_no_such_folder(self, written, tmp_path):
        with pytest.raises(OSError, match="No such file"):
            write_report([written], tmp_path / "missing" / "page.html")

    def test_names_with_odd_characters(self, written, tmp_path):
        name = "".join(map(chr, range(1, 128))).replace("/", "") + "ä 漢 \udcff"
        record = shutil.copytree(written, tmp_path / name / "sess_record")
        write_report([record], tmp_path / "page.html")
        assert data_of(tmp_path / "page.html")["runs"][0]["name"] == f"{name}/sess_record"


class TestNames:
    def test_as_few_folders_as_tell_them_apart(self, written, tmp_path):
        others = [shutil.copytree(written, tmp_path / name / "run" / "sess_record") for name in ("a", "b")]
        write_report([written], tmp_path / "page.html")
        assert [run["name"] for run in data_of(tmp_path / "page.html")["runs"]] == ["run/sess_record"]
        write_report([*others, others[0]], tmp_path / "page.html")
        assert [run["name"] for run in data_of(tmp_path / "page.html")["runs"]] == [
            f"{one}/run/sess_record" for one in "ab"
        ]

    def test_no_record_and_what_is_none(self, tmp_path):
        (tmp_path / "circle").symlink_to("circle")
        for folders in ([], [Path("/")], [tmp_path / "missing"], [tmp_path / "circle"]):
            write_report(folders, tmp_path / "page.html")
            runs = data_of(tmp_path / "page.html")["runs"]
            assert len(runs) == len(folders)
            assert all("record.json cannot be read" in run["error"] for run in runs)


@given(st.integers(0, 500), st.integers(1, 100))
def test_thinned_evenly(count, most):
    numbers = [2 * i for i in range(count)]
    thinned = evenly_thinned(numbers, most)
    assert len(thinned) == min(count, most)
    assert thinned == sorted(set(thinned))
    assert set(thinned) <= set(numbers)
    if count and most > 1:
        assert (thinned[0], thinned[-1]) == (numbers[0], numbers[-1])
        steps = [b - a for a, b in pairwise(thinned)]
        assert max(steps, default=0) - min(steps, default=0) <= 2  # of numbers that lie two apart


@pytest.fixture(scope="module")
def sources():
    return {path.name: path.read_text(encoding="utf-8") for path in STATIC.glob("*.js")}


class TestScript:
    """What `bundle` counts on, see static/README.md."""

    def test_top_level_names_are_unique(self, sources):
        names = [name for text in sources.values() for found in TOP_LEVEL.findall(text) for name in declared(found)]
        assert len(names) > 50
        assert sorted(name for name in set(names) if names.count(name) > 1) == []

    def test_imports_have_the_form_that_is_taken_out(self, sources):
        for name, text in sources.items():
            lines = [line for line in text.splitlines() if re.match(r"\s*import\b|.*\bimport\s*[({]", line)]
            assert lines == [one.group().rstrip("\n") for one in report._IMPORT.finditer(text)], name
            head = re.split(r"^(?!import |//|$)", text, maxsplit=1, flags=re.MULTILINE)[0]
            assert head.count("\nimport ") + head.startswith("import ") == len(lines), f"{name}: imports at the top"
            imported = [re.findall(r"\{(.*)\} from", line)[0] for line in lines]
            assert not [one for one in imported if " as " in one], name
            for line in lines:
                names, file = re.match(r'import \{ (.*) \} from "\./(.*)";', line).groups()
                for one in names.split(", "):
                    assert re.search(
                        rf"^export (async )?(function|class|const|let) {one}\b", sources[file], re.MULTILINE
                    )

    def test_exports_have_the_form_that_is_taken_out(self, sources):
        for name, text in sources.items():
            assert len(re.findall(r"^\s*export\b", text, re.MULTILINE)) == len(report._EXPORT.findall(text)), name

    def test_each_module_comes_once_and_after_what_it_needs(self, sources):
        order = modules("page.js")
        assert len(order) == len(set(order))
        assert set(order) == set(sources) - {"index.js"}
        for name in order:
            for other in report._IMPORT.findall(sources[name]):
                assert order.index(other) < order.index(name)

    def test_nothing_is_left_that_only_modules_have(self, tmp_path):
        script = bundle()
        assert not re.findall(r"^\s*(?:import|export)\b.*|.*import\.meta.*", script, re.MULTILINE)
        assert not re.search(r"</script|<!--|<script", script, re.IGNORECASE)  # would end its element

    @pytest.mark.skipif(not shutil.which("node"), reason="needs node")
    def test_node_takes_it(self, tmp_path):
        (tmp_path / "bundle.js").write_text(f"(() => {{\n{bundle()}\nshowReport();\n}})();\n")
        subprocess.run(["node", "--check", "bundle.js"], cwd=tmp_path, check=True, timeout=60)  # noqa: S607


def declared(text):
    """The names that a line declares, behind its `const` and so on: `a = 1, b = 2;` has two, `[a, b] = c` too."""
    found = re.match(r"[\[{]([^\]}]*)[\]}]", text)
    if found:
        return re.findall(r"\w+", found[1])
    first = re.match(r"\w+", text)[0]
    return [first, *re.findall(r", (\w+) = ", text if "=>" not in text and "(" not in text.split("=")[0] else "")]
