"""A small run with the callback, its event files read back, and a TensorBoard that serves them."""

import io
import json
import re
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.parse import urlencode
from urllib.request import urlopen

import numpy as np
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2

from sess_lightning import SESS, SESSCallback
from sess_lightning.data import ShapeScenes
from sess_lightning.metrics import DeletionAUC, InsertionAUC, PointingGame
from tests.helpers.training import Module, trainer

METRICS = {"insertion": InsertionAUC(steps=7), "deletion": DeletionAUC(steps=7), "pointing": PointingGame(tolerance=0)}


def scenes(**options):
    """Three classes, small: 80 pixels, 9 scenes to validate on."""
    defaults = {"num_classes": 3, "train_size": 24, "val_size": 9, "window": 32, "batch_size": 8}
    return ShapeScenes(**{**defaults, **options})


def callback(**options):
    defaults = {"sess": SESS(num_scales=2, window_size=32), "num_samples": 6, "num_images": 4, "metrics": METRICS}
    return SESSCallback(**{**defaults, **options})


def fit(folder, *callbacks, epochs=3, data=None, **options):
    """Three steps an epoch. Returns the trainer."""
    logger = options.pop("logger", None) or TensorBoardLogger(folder, name="board")
    t = trainer(folder, *callbacks, max_epochs=epochs, logger=logger, num_sanity_val_steps=1, **options)
    t.fit(Module(num_classes=3), datamodule=data or scenes())
    return t


def events(folder):
    sizes = {"images": 0, "scalars": 0, "tensors": 0}
    return EventAccumulator(str(folder), size_guidance=sizes).Reload()


def pictures(board, tag):
    """By step, `(H, W, 3)`."""
    return {event.step: np.array(Image.open(io.BytesIO(event.encoded_image_string))) for event in board.Images(tag)}


def layout(board):
    """Category, chart, patterns."""
    content = board.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0]
    read = layout_pb2.Layout.FromString(content)
    return {c.title: {chart.title: list(chart.multiline.tag) for chart in c.chart} for c in read.category}


def text(board, tag="sess/run"):
    (event,) = board.Tensors(f"{tag}/text_summary")
    return event.tensor_proto.string_val[0].decode()


@contextmanager
def server(folder, **options):
    """The address of a TensorBoard for the logs in a folder, on a free port of this machine.

    `options` are those of the process: `env`, `cwd`.
    """
    words = ["--logdir", str(folder), "--port", "0", "--samples_per_plugin", "images=1000"]
    command = [sys.executable, "-m", "tensorboard.main", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, **options)
    try:
        said = ""
        for line in process.stderr:
            said += line
            found = re.search(r"(http://\S+:\d+)/", line)
            if found:
                break
        else:
            raise RuntimeError(f"TensorBoard did not start:\n{said}")
        yield found[1]
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stderr.close()


def fetch(address, route, **query):
    with urlopen(f"{address}/data/plugin/{route}?{urlencode(query)}", timeout=30) as response:  # noqa: S310
        content = response.read()
    return content if response.headers.get_content_type() != "application/json" else json.loads(content)


def fetch_until(address, wanted, route, **query):
    """TensorBoard reads the logs while it serves: ask again until it has them all."""
    for _ in range(300):
        answer = fetch(address, route, **query)
        if wanted(answer):
            return answer
        time.sleep(0.1)
    raise AssertionError(f"{route} {query} stays {answer!r}")
