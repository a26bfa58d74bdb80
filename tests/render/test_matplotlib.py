"""What is drawn by matplotlib neither depends on the user's matplotlib nor changes it."""

import ast
import gc
import re
import weakref
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import matplotlib.pyplot as plt
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from sess_lightning import SESS
from sess_lightning.render import Bar, Line, bars_figure, curves_figure, process_figure
from sess_lightning.render.plot_page import drawn_and_freed
from tests.helpers.nets import small_cnn
from tests.helpers.pictures import picture

HOSTILE = {
    "text.usetex": True,
    "text.color": "red",
    "font.family": "monospace",
    "font.size": 40,
    "axes.grid": True,
    "axes.facecolor": "white",
    "axes.prop_cycle": matplotlib.cycler(color=["red"]),
    "figure.dpi": 300,
    "savefig.dpi": 300,
    "figure.facecolor": "white",
    "figure.autolayout": True,
    "lines.linewidth": 9,
    "lines.marker": "o",
    "grid.alpha": 0.1,
    "xtick.color": "red",
    "xtick.direction": "in",
    "legend.frameon": True,
    "legend.fontsize": 40,
}


def charts(number=0):
    """A chart of either kind, as one row of numbers."""
    heights = torch.linspace(0, 1, 5) ** (1 + number)
    curves = {"insertion": [Line("SESS", heights), Line("base", heights**2)]}
    bars = {"кот": [Bar(0.5, "1 of 2"), Bar(1, "2 of 2")]}
    pages = curves_figure(curves, {"insertion": "x"}, "кот $1"), bars_figure(bars, ["SESS", "base"], f"epoch {number}")
    return torch.cat([page.flatten() for page in pages])


def is_imported_at_once(node):
    """Whether a statement imports matplotlib when its file is imported: functions and TYPE_CHECKING do not count."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        return False
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return False
    if isinstance(node, ast.Import):
        return any(name.name.split(".")[0] == "matplotlib" for name in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] == "matplotlib"
    return any(map(is_imported_at_once, ast.iter_child_nodes(node)))


def test_no_file_of_the_package_imports_matplotlib_before_it_draws(root):
    """`sys.modules` would not show it: torchmetrics imports pyplot by itself where matplotlib is installed."""
    files = list((root / "sess_lightning").rglob("*.py"))
    assert any("matplotlib" in file.read_text() for file in files)
    assert [file.name for file in files if is_imported_at_once(ast.parse(file.read_text()))] == []
    assert is_imported_at_once(ast.parse("try:\n    import matplotlib.pyplot as plt\nexcept ImportError:\n    pass"))


def test_no_file_of_the_package_uses_pyplot(root):
    files = (root / "sess_lightning").rglob("*.py")
    assert [file.name for file in files if re.search(r"matplotlib\.pyplot|import pyplot", file.read_text())] == []


def test_the_users_matplotlib_stays_as_it_is():
    own = plt.figure()
    before = dict(matplotlib.rcParams), matplotlib.get_backend(), plt.get_fignums(), plt.gcf()
    charts()
    assert (dict(matplotlib.rcParams), matplotlib.get_backend(), plt.get_fignums(), plt.gcf()) == before
    plt.close(own)


def test_the_users_settings_do_not_change_the_charts():
    expected = charts()
    with matplotlib.rc_context(HOSTILE):
        assert torch.equal(charts(), expected)


def test_threads_do_not_disturb_each_other():
    expected = [charts(number) for number in range(3)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(charts, [0, 1, 2, 0, 1, 2]))
    assert all(torch.equal(one, other) for one, other in zip(found, expected * 2, strict=True))


@pytest.mark.parametrize("name", ["$a_1", "$a_1$", r"\frac{1}{2}", "a^b_c%"])
def test_signs_of_formulas_are_letters(name):
    page = bars_figure({name: [Bar(0.5, name)]}, ["SESS"], name)
    assert not torch.equal(page, bars_figure({"a": [Bar(0.5, "a")]}, ["SESS"], "a"))


def process():
    image = picture(64, 96)
    sess = SESS(num_scales=2, window_size=64)
    return process_figure(image, sess(small_cnn(), image[None] / 255, torch.tensor([1]), keep_patches=True))


@pytest.mark.parametrize("draw", [charts, process])
@pytest.mark.parametrize("enabled", [True, False], ids=["gc", "no gc"])
def test_no_figure_waits_for_the_garbage_collector(monkeypatch, draw, enabled):
    """Else tens of megabytes of them do in a training, which has too many objects for frequent full collections."""
    figures, original = [], FigureCanvasAgg.draw

    def recording(canvas):
        original(canvas)
        figures.append(weakref.ref(canvas.figure))

    monkeypatch.setattr(FigureCanvasAgg, "draw", recording)
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        draw()
        assert gc.isenabled() is enabled
        assert figures
        assert [figure() for figure in figures] == [None] * len(figures)
    finally:
        (gc.enable if before else gc.disable)()


def test_a_failure_leaves_the_garbage_collector_on():
    def fail():
        assert not gc.isenabled()
        raise OSError("no fonts")

    with pytest.raises(OSError, match="no fonts"):
        drawn_and_freed(fail)
    assert gc.isenabled()
