"""The layout that CONTRIBUTING.md draws: imports run downward, none runs in a circle, no file is long."""

import ast
from graphlib import TopologicalSorter

import pytest

# From the bottom to the top. A folder or file may import from lower rows and from itself, not from its own row.
ROWS = (
    {"boxes", "checks", "class_names", "intervals", "labels", "logits", "memory", "module_state", "pixels"},
    {"probing", "samples"},
    {"forwarding"},
    {"data", "layers", "metrics", "render"},
    {"networks", "saliency", "viewer"},
    {"classifier", "sess"},
    {"callback", "jobs"},
    {"benchmark"},
    {"cli"},
)
PACKAGE = "sess_lightning"


def module_name(path, root):
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree, modules):
    """The package's modules that a file imports: at its top, in functions, under TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno} has a relative import, which this test does not follow"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in modules:
                    yield full
                elif node.module in modules:
                    yield node.module


@pytest.fixture(scope="module")
def graph(root):
    """Module -> the modules that it imports."""
    files = {module_name(path, root): path for path in (root / PACKAGE).rglob("*.py")}
    return {name: set(imported(ast.parse(path.read_text()), files)) for name, path in files.items()}


def part(module):
    """The folder or file directly below the package that a module belongs to; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def upward(graph):
    """Every import that does not go to a lower row, nor stays within its folder."""
    row = {name: number for number, names in enumerate(ROWS) for name in names} | {"": len(ROWS)}
    return sorted(
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in others
        if part(module) != part(other) and row[part(other)] >= row[part(module)]
    )


def test_every_folder_and_file_has_a_row(graph):
    assert {part(module) for module in graph} == set().union(*ROWS) | {""}


def test_imports_run_downward(graph):
    assert upward(graph) == []


def test_no_import_runs_in_a_circle(graph):
    TopologicalSorter(graph).prepare()  # CycleError names the circle


def test_the_record_is_written_without_lightning(root):
    """Its writer serves other loops too; what knows the Trainer is in `callback`."""
    for path in (root / PACKAGE / "viewer").rglob("*.py"):
        found = {alias for node in ast.walk(ast.parse(path.read_text())) for alias in outside(node)}
        assert not {name for name in found if name.split(".")[0] in ("lightning", "torchmetrics")}, path


def outside(node):
    """Full names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_the_checks_find_what_they_look_for():
    planted = (
        "def f():\n    from sess_lightning.sess import SESS\nif TYPE_CHECKING:\n    import sess_lightning.cli.main\n"
    )
    found = set(imported(ast.parse(planted), {"sess_lightning.sess", "sess_lightning.cli.main"}))
    assert found == {"sess_lightning.sess", "sess_lightning.cli.main"}
    assert upward({"sess_lightning.render.text": found}) == [
        "sess_lightning.render.text imports sess_lightning.cli.main",
        "sess_lightning.render.text imports sess_lightning.sess",
    ]
    assert upward({"sess_lightning.sess.result": {"sess_lightning.render.text", "sess_lightning.sess.windows"}}) == []


@pytest.mark.parametrize(("folder", "most"), [(PACKAGE, 400), ("tests", 500)])
def test_no_file_is_long(root, folder, most):
    lines = {str(path.relative_to(root)): len(path.read_text().splitlines()) for path in (root / folder).rglob("*.py")}
    assert {path: count for path, count in lines.items() if count > most} == {}


def test_no_test_file_imports_another(root):
    for path in (root / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests"):
                assert node.module.startswith("tests.helpers"), f"{path.relative_to(root)} imports {node.module}"
