"""The layer found in the networks of timm and Hugging Face, held to the table in docs/architectures.md.

To write the table anew: `python -m tests.test_architectures`. Takes some minutes; random weights, nothing is loaded.
"""

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from sess_lightning.layers import locate
from sess_lightning.probing import probe
from tests.helpers.architectures import HUGGING_FACE, TIMM, TIMM_OPTIONS
from tests.helpers.nets import seeded

DOCS = Path(__file__).parents[1] / "docs" / "architectures.md"
START, END = "<!-- made by tests/test_architectures.py -->\n", "<!-- end -->\n"
HEAD = ["| library | network | image | layer | grid | |", "|---|---|---|---|---|---|"]
EMBEDDING = ("patch_embed", "embeddings", "stem", "conv1", "preprocessor", "patch_embeddings", "tokens")


def of_timm(name):
    timm = pytest.importorskip("timm")
    options = TIMM_OPTIONS.get(name, {})
    model = timm.create_model(name, pretrained=False, num_classes=5, **options)
    return model, options.get("img_size", model.pretrained_cfg["input_size"][-1])


def of_hugging_face(name):
    transformers = pytest.importorskip("transformers")
    kind, settings = HUGGING_FACE[name]
    config = getattr(transformers, f"{kind}Config")(**settings, num_labels=5)
    infix = "ForImageClassification"
    of = f"{kind}{infix}{name.removeprefix(kind)}" if kind == "Perceiver" else f"{name}{infix}"
    size = settings.get("vision_config", settings)["image_size"]
    return getattr(transformers, of)(config), size[0] if isinstance(size, list) else size


class Warnings(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def row(library, make, name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model, size = make(name)
    images = seeded(0, 2, 3, size, size)
    handler, log = Warnings(), logging.getLogger("sess_lightning")
    log.addHandler(handler)
    try:
        with probe(model.eval()):
            layer, reshape = locate(model, images)
    finally:
        log.removeHandler(handler)
    grid = shape_of(model, images, layer, reshape)
    early = any("comes early" in text for text in handler.texts)
    assert early or not any(part in EMBEDDING for part in layer.split("."))
    note = "early: a warning says so" if early else ""
    return f"| {library} | `{name}` | {size} | `{layer}` | {grid[0]} x {grid[1]} | {note} |"


def shape_of(model: nn.Module, images, layer, reshape):
    """Rows and columns of what the layer gives."""
    seen = []

    def keep(module, args, output):
        seen.append(output[0] if isinstance(output, tuple) else output)

    handle = model.get_submodule(layer).register_forward_hook(keep)
    with torch.no_grad():
        model(images)
    handle.remove()
    return reshape(seen[-1]).shape[-2:]


def table():
    rows = list(HEAD)
    for library, make, names in (
        ("timm", of_timm, [*TIMM, *TIMM_OPTIONS]), ("Hugging Face", of_hugging_face, HUGGING_FACE)
    ):  # fmt: skip
        for name in names:
            rows.append(row(library, make, name))
            print(rows[-1], flush=True)
    return "\n".join(rows) + "\n"


def documented():
    return DOCS.read_text().split(START)[1].split(END)[0].splitlines()


@pytest.mark.slow
def test_the_table_in_the_docs_is_what_a_run_gives():
    assert documented() == table().splitlines()


@pytest.mark.parametrize(
    ("library", "make", "name"),
    [
        ("timm", of_timm, "cait_xxs24_224"),
        ("timm", of_timm, "xcit_nano_12_p16_224"),
        ("timm", of_timm, "aimv2_large_patch14_224"),
        ("timm", of_timm, "vit_base_patch32_siglip_256"),
        ("Hugging Face", of_hugging_face, "Swinv2"),
        ("Hugging Face", of_hugging_face, "Dinov2WithRegisters"),
    ],
)
def test_some_rows_of_it(library, make, name):
    assert row(library, make, name) in documented()


def test_every_network_is_in_the_table():
    rows = documented()
    assert rows[:2] == HEAD
    assert len(rows) == 2 + len(TIMM) + len(TIMM_OPTIONS) + len(HUGGING_FACE)
    assert len(TIMM) >= 60
    assert len(HUGGING_FACE) >= 15


if __name__ == "__main__":
    before, rest = DOCS.read_text().split(START)
    DOCS.write_text(before + START + table() + END + rest.split(END)[1])
