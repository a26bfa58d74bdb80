"""Table 2 of the paper on the user's machine: time of SESS relative to the network passes it needs at least."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from tqdm import tqdm

from sess_lightning.benchmark.passes import count_passes
from sess_lightning.benchmark.tables import Row, markdown, write_csv
from sess_lightning.benchmark.timing import alternate, fastest, float32_products, peak_megabytes, seconds
from sess_lightning.checks import check_choice, check_count, chosen_device
from sess_lightning.metrics import perturbation_curve
from sess_lightning.pixels import resize
from sess_lightning.probing import probe
from sess_lightning.saliency.base import BaseMethod
from sess_lightning.saliency.gradient import input_gradient
from sess_lightning.saliency.registry import method_names, resolve_method
from sess_lightning.sess import SESS

WINDOW = 224
_PRECISIONS = {"32": "float32", "tf32": "TF32", "bf16": "bf16 autocast"}
_BATCH_SIZES = (1, 4, 8, 16, 64)
_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
_COLUMNS = {
    "method": "", "scales": "", "r": "g", "patches": ".0f", "kept": ".0f", "alone s": ".3f", "s": ".3f",
    "bare s": ".3f", "s / bare s": ".2f", "own work": ".1%", "peak MB": ".0f",
}  # fmt: skip


def runtime(
    model: str = "resnet50",
    methods: str = "gradcam,guidedbp,groupcam",
    scales: str = "6,12",
    ratios: str = "0,0.5,0.99",
    alone: str = "",
    images: int = 1,
    image_size: str = "224x224",
    metric_images: int = 4,
    batch_size: int | None = None,
    repeats: int = 5,
    accelerator: str = "auto",
    precision: str = "32",
    compile: bool = False,
    out: str = "runtime",
) -> None:
    """Measure seconds per image and peak memory of base methods alone and with SESS, with random weights.

    For each row, SESS alternates with the bare network passes of the same patches: one forward pass per scored patch,
    plus the passes that the base method makes for each kept patch, which are counted. Bare forward passes use the batch
    size and memory format that are fastest on this machine. A last row compares insertion and deletion with the bare
    forward passes of their perturbed images.

    Args:
        model: name of a torchvision classifier.
        methods: names of base methods, separated by commas.
        scales: numbers of scales, separated by commas.
        ratios: pre-filter ratios, separated by commas; single-pass methods use only the first.
        alone: methods to measure once without SESS, separated by commas, e.g. rise,scorecam,xrai as in the paper.
        images: number of images per call.
        image_size: height x width of the images in pixels.
        metric_images: number of 224 x 224 images for the row of insertion and deletion; 0 omits that row.
        batch_size: patches per forward pass in SESS; the device's default if left out.
        repeats: number of measurements per row; the table reports medians.
        accelerator: auto (a GPU where there is one), cpu, gpu, or a torch device such as cuda:1. Timers wait for it.
        precision: "32"; "tf32", float32 whose products a GPU rounds to TF32; or "bf16" for autocast.
        compile: compile the network by torch.compile first, for SESS and the bare passes alike.
        out: folder for runtime.md and runtime.csv.
    """
    counts, shares = _numbers("scales", scales, int), _numbers("ratios", ratios, float)
    _check_methods("methods", methods)
    _check_methods("alone", alone)
    check_count("repeats", repeats)
    check_count("metric_images", metric_images or None, optional=True)
    jobs = [
        (name, n, r)
        for name, n in product(methods.split(","), counts)
        for r in (shares[:1] if resolve_single_pass(name) else shares)
    ]
    for name, n, r in jobs:
        SESS(name, n, window_size=WINDOW, prefilter_ratio=r, batch_size=batch_size)  # checks them before work starts
    setting = _Setting.of(model, images, image_size, batch_size, accelerator, precision, compile)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    kind = f"{_PRECISIONS[precision]}{', compiled' * compile}"
    head = f"`{model}`, {images} image{'s' * (images > 1)} of {image_size}, {setting.hardware()}, {kind}, "
    with float32_products(tf32=precision == "tf32"):
        _measure(setting, jobs, [name for name in alone.split(",") if name], metric_images, repeats, folder, head)
    print((folder / "runtime.md").read_text(encoding="utf-8"))


def _measure(
    setting: _Setting,
    jobs: list[tuple[str, int, float]],
    alone: list[str],
    metric_images: int,
    repeats: int,
    folder: Path,
    head: str,
) -> None:
    """Measure row by row, and write what is there after each."""
    count, memory_format = setting.best_forward()
    head += (
        f"medians of {repeats}; fastest bare forward: batch {count}, {memory_format}; seconds and patches per image."
    )
    rows: list[Row] = []
    works = [partial(setting.row, *job, count, memory_format, repeats) for job in jobs]
    works += [partial(setting.alone_row, name, count, memory_format) for name in alone]
    if metric_images:
        works.append(partial(setting.metric_row, metric_images, count, memory_format, repeats))
    for work in tqdm(works, desc="runtime", unit="row"):
        rows.append(work())
        write_csv(folder / "runtime.csv", rows)
        (folder / "runtime.md").write_text(f"{head}\n\n{markdown(rows, _COLUMNS)}\n", encoding="utf-8")


def _numbers(name: str, words: str, kind: Callable[[str], Any]) -> list[Any]:
    """Returns the numbers in a list separated by commas."""
    try:
        return [kind(word) for word in words.split(",")]
    except ValueError as error:
        raise ValueError(f"Expected argument `{name}` to be numbers separated by commas, but got {words!r}.") from error


def _check_methods(name: str, words: str) -> None:
    """Raise a `ValueError` unless all are base methods of this package, whose own work can be told from the rest."""
    for word in filter(None, words.split(",")):
        if not isinstance(resolve_method(word), BaseMethod):
            raise ValueError(
                f"Expected argument `{name}` to name methods of this package, {method_names()}, but got {word!r}."
            )


def resolve_single_pass(name: str) -> bool:
    """Whether a method computes scores and maps in one pass, so that a pre-filter saves no time."""
    return bool(getattr(resolve_method(name), "single_pass", False))


@dataclass
class _Setting:
    """Network, inputs and precision shared by all rows."""

    model: nn.Module
    images: Tensor  # (B, 3, H, W)
    targets: Tensor
    batch_size: int | None
    bf16: bool

    @classmethod
    def of(
        cls,
        model: str,
        images: int,
        size: str,
        batch_size: int | None,
        accelerator: str,
        precision: str,
        compiled: bool = False,
    ) -> _Setting:
        check_choice("precision", precision, tuple(_PRECISIONS))
        check_count("images", images)
        sides = _numbers("image_size", size.lower().replace("x", ","), int)
        if len(sides) != 2 or min(sides) < 1:
            raise ValueError(f"Expected argument `image_size` to be height x width, e.g. 224x224, but got {size!r}.")
        where = chosen_device("cuda" if accelerator == "gpu" else accelerator, "accelerator")
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            try:
                network = torchvision.models.get_model(model, weights=None).eval().to(where)
            except ValueError as error:
                raise ValueError(
                    f"Expected argument `model` to be the name of a torchvision classifier, but got {model!r}."
                ) from error
        if compiled:
            network.compile()
        pixels = torch.randn(images, 3, *sides, generator=generator).to(where)
        targets = torch.zeros(images, dtype=torch.long, device=where)
        return cls(network, pixels, targets, batch_size, precision == "bf16")

    def hardware(self) -> str:
        device = self.images.device
        if device.type == "cuda":
            return torch.cuda.get_device_name(device)
        return f"{device.type} with {torch.get_num_threads()} threads"

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.images.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def best_forward(self) -> tuple[int, str]:
        """Returns the batch size and memory format with the fastest bare forward pass per patch."""
        choices = list(product(_BATCH_SIZES, _FORMATS))
        works = [self.forwards(max(8, choice[0]), *choice) for choice in choices]
        return choices[fastest(works, [max(8, count) for count, _ in choices], self.images.device)]

    def forwards(self, patches: int, count: int, memory_format: str) -> Callable[[], None]:
        """Returns a function that runs the forward passes of `patches` patches without gradients, `count` at a time."""
        batch = self._batch(count, memory_format)

        def work() -> None:
            with torch.no_grad(), self.autocast():
                for begin in range(0, patches, count):
                    self.model(batch[: patches - begin])

        return work

    def gradients(self, patches: int, count: int, memory_format: str) -> Callable[[], None]:
        """Returns a function that runs forward and backward passes to the pixels of `patches` patches."""
        batch = self._batch(count, memory_format)
        targets = self.targets.new_zeros(count)

        def work() -> None:
            with probe(self.model), self.autocast():
                for begin in range(0, patches, count):
                    part = batch[: patches - begin]
                    input_gradient(self.model, part, targets[: len(part)])

        return work

    def row(self, name: str, num_scales: int, ratio: float, count: int, memory_format: str, repeats: int) -> Row:
        """Measure one method at one number of scales and one pre-filter ratio."""
        sess = SESS(name, num_scales, window_size=WINDOW, prefilter_ratio=ratio, batch_size=self.batch_size)
        device, total = self.images.device, len(self.images)

        def enhanced() -> Any:
            with self.autocast():
                return sess(self.model, self.images, self.targets)

        def base() -> None:
            with self.autocast():
                sess.method(self.model, resize(self.images, (WINDOW, WINDOW)), self.targets)

        result = enhanced()
        patches, kept = len(result.windows[0]) * total, len(result.kept[0]) * total
        bare = self._bare(sess.method, patches, kept, ratio, count, memory_format)
        memory = peak_megabytes(enhanced, device)
        bare_times, sess_times, base_times = alternate([bare, enhanced, base], device, repeats)
        return {
            "method": name,
            "scales": num_scales,
            "r": ratio,
            "patches": patches / total,
            "kept": kept / total,
            "alone s": median(base_times) / total,
            "s": median(sess_times) / total,
            "bare s": median(bare_times) / total,
            "s / bare s": median(s / b for s, b in zip(sess_times, bare_times, strict=True)),
            "own work": _own_share(sess, self.model, enhanced, device),
            "peak MB": memory,
        }

    def metric_row(self, images: int, count: int, memory_format: str, repeats: int) -> Row:
        """Measure insertion and deletion (28 steps each) relative to the forward passes of the perturbed images."""
        device = self.images.device
        pixels = torch.randn(images, 3, WINDOW, WINDOW, generator=torch.Generator().manual_seed(1)).to(device)
        saliency = torch.rand(images, WINDOW, WINDOW, generator=torch.Generator().manual_seed(2)).to(device)
        targets = torch.zeros(images, dtype=torch.long, device=device)

        def both() -> None:
            with self.autocast():
                for mode in ("insertion", "deletion"):
                    perturbation_curve(self.model, pixels, saliency, targets, mode, batch_size=self.batch_size)

        forwards = 2 * 29
        bare = self.forwards(forwards * images, count, memory_format)
        memory = peak_megabytes(both, device)
        bare_times, times = alternate([bare, both], device, repeats)
        return {
            **dict.fromkeys(_COLUMNS),
            "method": f"insertion + deletion of {images}",
            "patches": forwards,
            "s": median(times) / images,
            "bare s": median(bare_times) / images,
            "s / bare s": median(t / b for t, b in zip(times, bare_times, strict=True)),
            "peak MB": memory,
        }

    def own(self, method: Any, images: int, count: int, memory_format: str) -> Callable[[], None]:
        """Returns a function that runs the bare passes a base method makes for `images` images.

        The method must have found its target layer already.
        """
        passes = count_passes(method, self.model, self._batch(1, memory_format), self.targets[:1])
        forwards = self.forwards(images * passes.forwards, count, memory_format)
        gradients = self.gradients(images * passes.gradients, count, memory_format)

        def work() -> None:
            forwards()
            gradients()

        return work

    def alone_row(self, name: str, count: int, memory_format: str) -> Row:
        """Measure a method once without SESS: for methods that take thousands of passes."""
        method = resolve_method(name)
        squashed = resize(self.images, (WINDOW, WINDOW))

        def base() -> None:
            with self.autocast():
                method(self.model, squashed, self.targets)

        memory = peak_megabytes(base, squashed.device)  # this call also finds the target layer
        bare = self.own(method, len(squashed), count, memory_format)
        times = {"alone s": seconds(base, squashed.device), "bare s": seconds(bare, squashed.device)}
        return {
            **dict.fromkeys(_COLUMNS),
            "method": name,
            **{key: time / len(squashed) for key, time in times.items()},
            "s / bare s": times["alone s"] / times["bare s"],
            "peak MB": memory,
        }

    def _bare(
        self, method: Any, patches: int, kept: int, ratio: float, count: int, memory_format: str
    ) -> Callable[[], None]:
        """Returns a function that runs the minimum of passes: scores of all patches, and explanations of those kept."""
        if getattr(method, "single_pass", False):
            return self.forwards(patches, count, memory_format)
        scoring = self.forwards(patches if ratio else 0, count, memory_format)
        own = self.own(method, kept, count, memory_format)

        def work() -> None:
            scoring()
            own()

        return work

    def _batch(self, count: int, memory_format: str) -> Tensor:
        shape = (count, self.images.shape[1], WINDOW, WINDOW)
        return torch.zeros(shape, device=self.images.device).contiguous(memory_format=_FORMATS[memory_format])


def _own_share(sess: SESS, model: nn.Module, enhanced: Callable[[], object], device: torch.device) -> float:
    """Returns the fraction of time spent outside base method and network: resizing, windows, fusion, smoothing."""
    inside: list[float] = []
    with _timed(sess.method, model, inside, device):
        total = seconds(enhanced, device)
    return 1 - sum(inside) / total


@contextmanager
def _timed(method: Any, model: nn.Module, inside: list[float], device: torch.device) -> Iterator[None]:
    """Append to `inside` the time spent in the method, and in forward passes that only score."""
    if not isinstance(method, BaseMethod):
        raise TypeError(f"Expected a base method of this package, but got {method!r}.")
    explain, forward = method.explain, model.forward
    explaining = False

    def timed_explain(*args: Any) -> Any:
        nonlocal explaining
        explaining = True
        result: list[Any] = []
        inside.append(seconds(lambda: result.append(explain(*args)), device))
        explaining = False
        return result[0]

    def timed_forward(*args: Any) -> Any:
        if explaining:
            return forward(*args)
        result: list[Any] = []
        inside.append(seconds(lambda: result.append(forward(*args)), device))
        return result[0]

    method.explain, model.forward = timed_explain, timed_forward  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        del method.explain, model.forward
