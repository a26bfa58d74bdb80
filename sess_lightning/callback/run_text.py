"""Settings and samples of a run as markdown, for TensorBoard's text page."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from torch import Tensor
from torchmetrics import Metric

from sess_lightning.callback.explainer import Place
from sess_lightning.sess import SESS


def settings_of(owner: Any, leave_out: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the arguments that an object was made with, as far as it keeps them as attributes of the same name."""
    settings: dict[str, Any] = {}
    for name in inspect.signature(type(owner)).parameters:
        if name not in leave_out and hasattr(owner, name):
            value = getattr(owner, name)
            parts = (
                {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, Mapping) else {name: value}
            )
            settings |= {key: _readable(one) for key, one in parts.items()}
    return settings


def _readable(value: Any) -> Any:
    """Returns the name of a function, the class and arguments of a metric (its own repr omits them), or the value."""
    if inspect.isroutine(value):
        return f"{getattr(value, '__module__', None) or 'builtins'}.{value.__qualname__}"  # methods in C lack a module
    if isinstance(value, Metric):
        arguments = ", ".join(f"{name}={one!r}" for name, one in settings_of(value).items())
        return f"{type(value).__name__}({arguments})"
    return value


def sess_settings(sess: SESS, images: Sequence[Tensor]) -> dict[str, Any]:
    """Returns the settings of SESS and what follows from them for these images: layer, window, number of patches."""
    settings = settings_of(sess)
    layer = getattr(sess.method, "resolved_layer", None)
    settings = {"method": settings.pop("method")} | ({"layer explained": layer} if layer else {}) | settings
    if len(images):
        window = sess.window_for(images)
        size = (images[0].shape[-2], images[0].shape[-1])
        settings["window used"] = f"{window[0]} x {window[1]}"
        settings["first sample"] = f"{size[0]} x {size[1]} pixels, {len(sess.windows_for(size, window))} patches"
    return settings


def run_text(
    sess: Mapping[str, Any],
    settings: Mapping[str, Any],
    samples: Sequence[tuple[Place, str | None]],
    chosen: str,
    photos: Sequence[str] | None = None,
) -> str:
    """Returns the settings and the followed samples of a run as markdown.

    Args:
        sess: settings of SESS, by argument.
        settings: settings of the callback, by argument.
        samples: place of each followed sample, and the name of its class.
        chosen: a sentence that tells how they were chosen.
        photos: names of all photos where the samples are some of them; their place then holds the photo's number.
    """
    several = len({place[0] for place, _ in samples}) > 1
    head = ["sample", *["process"] * several, *(["photo"] if photos else ["batch", "position in the batch"]), "label"]
    rows = [
        [number, *[rank] * several, *([photos[batch]] if photos else [batch, position]), label or "unknown"]
        for number, ((rank, batch, position), label) in enumerate(samples)
    ]
    return "\n\n".join(
        [
            "### SESS", _table(["setting", "value"], sess.items()),
            "### Callback", _table(["argument", "value"], settings.items()),
            f"### Samples\n\nSamples explained in the first validation: {len(samples)}. {chosen}", _table(head, rows),
        ]
    )  # fmt: skip


def waiting(seconds: list[float]) -> list[str]:
    """Returns a sentence about how long processes waited for each other; none where there is one.

    Args:
        seconds: that the work of each process took, before anything is drawn.

    Example:
        >>> waiting([3.0, 2.75])
        ['Explaining and measuring took 3.0 s on process 0, the slowest, and 2.8 s on process 1, which waited 0.2 s.']
    """
    if len(seconds) < 2:
        return []
    slow, fast = seconds.index(max(seconds)), seconds.index(min(seconds))
    return [
        f"Explaining and measuring took {seconds[slow]:.1f} s on process {slow}, the slowest, and "
        f"{seconds[fast]:.1f} s on process {fast}, which waited {seconds[slow] - seconds[fast]:.1f} s."
    ]


def in_one_line(value: Any) -> str:
    """Returns a value as one line, cut at 300 characters."""
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= 300 else text[:299] + "…"


def _table(head: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    """Returns a value as one line with markdown's special characters escaped, cut at 300 characters."""
    text = in_one_line(value)
    for letter in "\\`*_{}[]|":
        text = text.replace(letter, f"\\{letter}")
    return escape(text, quote=False)
