"""Output to loggers and the log folder other than numbers: pictures, the evolution, text, layout of charts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
from torch import Tensor

from sess_lightning.callback.evolution import Evolution
from sess_lightning.callback.explainer import Explained, Place, interleaved
from sess_lightning.callback.keys import (
    CURVES,
    EVOLUTION,
    INTERVALS,
    KEYS,
    MAPS,
    NEW_ERRORS,
    POINTING_PER_CLASS,
    RUN,
    WARNINGS,
    WORST,
    Tag,
    full_name,
    metric_charts,
)
from sess_lightning.callback.loggers import log_folder, log_image, log_layout, log_text
from sess_lightning.callback.notable import Notable
from sess_lightning.callback.run_text import run_text, waiting
from sess_lightning.callback.sample_rows import DisplayOptions, draw_grid, map_rows
from sess_lightning.callback.sample_values import as_table, in_short
from sess_lightning.callback.saving import file_pattern, save_evolution, save_validation
from sess_lightning.callback.tracker import Curves, LoaderTracker
from sess_lightning.render import Bar, Line, bars_figure, curves_figure
from sess_lightning.render.text import DOT

Settings = tuple[Mapping[str, Any], Mapping[str, Any]]
_MOST_CLASSES = 24  # in one picture: more would be too small to read


class SampleOutcome(NamedTuple):
    """Place, classes and hits of one followed sample, without its pixels: small enough to gather from all processes."""

    place: Place
    label: int
    target: int
    hit: bool | None
    base_hit: bool | None


Shown = tuple[Explained, list[SampleOutcome]]


class Reporter:
    """Reports one `fit`, `validate` or `test` to the loggers. Rank 0 writes and decides what; it calls no other rank.

    Args:
        prefix: first part of every tag.
        num_images: number of samples drawn; with 0 nothing is reported.
        every_n_epochs: in a `fit`, draw pictures in every so many-th validation.
        display: how samples are shown.
        save_dir: folder in which the pictures are written too.

    Attributes:
        drawing: whether pictures of this validation are drawn; rank 0's `due`, which the others are told.
    """

    def __init__(
        self, prefix: str, num_images: int, every_n_epochs: int, display: DisplayOptions, save_dir: str | None
    ) -> None:
        self.prefix, self.num_images, self.every_n_epochs = prefix, num_images, every_n_epochs
        self.display, self.save_dir = display, save_dir
        self.drawing = False
        self.charts: dict[str, dict[str, list[str]]] = {}
        self._introduced: set[str] = set()
        self._evolutions: dict[str, Evolution] = defaultdict(Evolution)
        self._unable: dict[str, str] = {}  # kinds of loggers that cannot show pictures, and the first one's tag
        self._shown = False  # a picture, in some logger
        self._patterns: dict[str, str] = {}  # of the names of files in `save_dir`, by tag
        self._undrawn, self._drew = every_n_epochs - 1, False  # validations since the last one drawn: the first is due

    def begin(self) -> None:
        """Start a validation. For one that was due but skipped, the next is drawn."""
        self._undrawn = 1 if self._drew else self._undrawn + 1
        self._drew = False

    def reports(self, trainer: pl.Trainer) -> bool:
        """Whether anything is written in this run. Only rank 0 may have a logger: ask no other."""
        return bool(self.num_images and (trainer.loggers or self.save_dir))

    def folder(self, trainer: pl.Trainer) -> Path:
        """The folder of the files that show the whole run."""
        return Path(self.save_dir or log_folder(trainer.loggers) or trainer.default_root_dir)

    def due(self, trainer: pl.Trainer) -> bool:
        """Whether pictures of this validation are to be drawn. Only rank 0 may have a logger: ask no other."""
        return self.reports(trainer) and (trainer.state.fn != "fit" or self._undrawn >= self.every_n_epochs)

    def share(self, tracker: LoaderTracker) -> Shown:
        """Returns this process's part of the samples drawn, and the outcomes of all its samples."""
        if not self.num_images:
            return Explained(), []
        found = tracker.found
        return found.part(0, tracker.selection.share(self.num_images) if self.drawing else 0), _outcomes(found)

    def report(
        self,
        trainer: pl.Trainer,
        tracker: LoaderTracker,
        suffix: str,
        values: Iterable[str],
        settings: Callable[[], Settings],
    ) -> None:
        """Report the validation of one loader, on rank 0; elsewhere nothing is done.

        Args:
            trainer: in a validation or test that is about to end.
            tracker: results of the loader, after `compute`, with `shown`.
            suffix: last part of every tag.
            values: names of the keys that are logged.
            settings: returns the settings of SESS and of the callback; called only where they are written.
        """
        if not trainer.is_global_zero or not self.reports(trainer):
            return
        introduces, draws = suffix not in self._introduced, self.drawing
        self._drew = self._drew or draws
        self._introduced.add(suffix)
        curves = tracker.curves(trainer.strategy) if draws else {}
        display = self.display._replace(class_names=tracker.class_names.names)
        self._lay_out(trainer, suffix, values)
        if tracker.alarms:
            text = "\n".join(f"- {alarm.text}" for alarm in tracker.alarms)
            log_text(trainer.loggers, self._tag(WARNINGS, suffix), text, trainer.global_step)
        if not draws and not introduces:
            return
        outcomes = [outcome for _, one in tracker.shown for outcome in one]
        if introduces:
            samples = [(outcome.place, display.name(outcome.label)) for outcome in outcomes]
            how = " ".join([tracker.selection.how, *waiting(tracker.process_seconds)])
            text = run_text(*settings(), samples, how, tracker.photo_names)
            log_text(trainer.loggers, self._tag(RUN, suffix), text, trainer.global_step)
        if tracker.intervals:
            log_text(trainer.loggers, self._tag(INTERVALS, suffix), as_table(tracker.intervals), trainer.global_step)
        found = interleaved([one for one, _ in tracker.shown]).part(0, self.num_images)
        if draws and len(found):
            self._draw_maps(trainer, found, suffix, display, in_short(tracker.intervals))
            self._draw_notable(trainer, tracker.notable or Notable(), suffix, display)
            self._draw_numbers(trainer, curves, outcomes if tracker.hit_rule.measured else [], suffix, display)

    def close(self, trainer: pl.Trainer) -> None:
        """Write the evolution of a `fit` that has ended or failed; a second call writes nothing."""
        evolutions, self._evolutions = dict(self._evolutions), defaultdict(Evolution)
        for suffix, evolution in evolutions.items():
            strip = evolution.strip()
            tag = self._show(trainer, EVOLUTION, suffix, strip)
            save_evolution(self.folder(trainer), tag, strip, evolution.sheets())

    def complaints(self) -> Iterator[str]:
        """Yields a message for every kind of logger that cannot show pictures."""
        for kind, tag in self._unable.items():
            if self._shown:
                yield f"SESSCallback cannot show images in {kind}: `{tag}` goes to the other loggers only."
            elif self.save_dir is None:
                yield (
                    f"SESSCallback cannot show images in {kind}: pass save_dir= to have `{tag}` as PNG files, or add "
                    "a TensorBoardLogger."
                )

    def _lay_out(self, trainer: pl.Trainer, suffix: str, values: Iterable[str]) -> None:
        """Write the layout of the charts when there are new ones, e.g. of a metric that has its first value later.

        A layout replaces the one before, so it holds the charts of every `SESSCallback` of the trainer.
        """
        charts = metric_charts(values, self.prefix, suffix)
        category = self.prefix + suffix
        if not charts.keys() - self.charts.get(category, {}).keys():
            return
        self.charts[category] = charts
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        reporters = [one.reporter for one in callbacks if isinstance(getattr(one, "reporter", None), Reporter)]
        log_layout(trainer.loggers, {title: charts for one in reporters for title, charts in one.charts.items()})

    def _draw_maps(
        self, trainer: pl.Trainer, found: Explained, suffix: str, display: DisplayOptions, numbers: str
    ) -> None:
        self._draw_grid(trainer, MAPS, found, suffix, display, numbers)
        if trainer.state.fn == "fit":
            epoch, step = trainer.current_epoch, trainer.global_step
            self._evolutions[suffix].add(epoch, step, found.places, map_rows(found, display))

    def _draw_notable(self, trainer: pl.Trainer, notable: Notable, suffix: str, display: DisplayOptions) -> None:
        for tag in (WORST, NEW_ERRORS):
            losses = notable.losses.get(tag.name)
            if losses:
                text = f"loss {losses[0]:.2f}" + (f" to {losses[-1]:.2f}" if len(losses) > 1 else "")
                self._draw_grid(trainer, tag, notable.found[tag.name], suffix, display, text)

    def _draw_grid(
        self, trainer: pl.Trainer, kind: Tag, found: Explained, suffix: str, display: DisplayOptions, numbers: str
    ) -> None:
        epoch, step = trainer.current_epoch, trainer.global_step
        grid = draw_grid(found, display, DOT.join(filter(None, [f"epoch {epoch}", f"step {step}", numbers])))
        tag = self._show(trainer, kind, suffix, grid)
        if self.save_dir is not None:
            folder = Path(self.save_dir) / tag.replace("/", "_")
            if tag not in self._patterns:
                self._patterns[tag] = file_pattern(folder, trainer.state.fn.value if trainer.state.fn else "fit")
            save_validation(folder, self._patterns[tag].format(step), grid, found)

    def _draw_numbers(
        self,
        trainer: pl.Trainer,
        curves: Curves,
        outcomes: Iterable[SampleOutcome],
        suffix: str,
        display: DisplayOptions,
    ) -> None:
        title = f"epoch {trainer.current_epoch} · step {trainer.global_step}"
        if curves:
            self._show(trainer, CURVES, suffix, _curves(curves, f"probability of the class, {title}"))
        classes = _by_class(outcomes, display)
        if len(classes) > 1:
            self._show(trainer, POINTING_PER_CLASS, suffix, _bars(classes, f"pointing accuracy by class, {title}"))

    def _tag(self, tag: Tag, suffix: str) -> str:
        return full_name(tag.name, self.prefix, suffix)

    def _show(self, trainer: pl.Trainer, kind: Tag, suffix: str, picture: Tensor) -> str:
        tag = self._tag(kind, suffix)
        unable = log_image(trainer.loggers, tag, picture, trainer.global_step)
        self._unable = dict.fromkeys(unable, tag) | self._unable
        self._shown = self._shown or len(unable) < len(trainer.loggers)
        return tag


def _outcomes(found: Explained) -> list[SampleOutcome]:
    base_hits = found.base_hits or [None] * len(found)
    columns = found.places, found.labels.tolist(), found.targets.tolist(), found.hits, base_hits
    return [SampleOutcome(*row) for row in zip(*columns, strict=True)]


def _curves(curves: Curves, title: str) -> Tensor:
    headings = {key.title: f"{key.title}: {key.direction}" for key in KEYS if key.title in curves}
    charts = {
        headings[mode]: [Line(f"{who} {area:.3f}", curve) for who, (curve, area) in lines.items()]
        for mode, lines in curves.items()
    }
    axes = {headings[mode]: f"pixels {mode[:-3]}ed, most salient first" for mode in curves}  # inserted, deleted
    return curves_figure(charts, axes, title)


def _by_class(outcomes: Iterable[SampleOutcome], display: DisplayOptions) -> dict[str, list[SampleOutcome]]:
    """Returns the samples that count for pointing by name of the explained class, in the order of the class indices."""
    classes: dict[int, list[SampleOutcome]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.hit is not None or outcome.base_hit is not None:
            classes[outcome.target].append(outcome)
    names = [display.name(target) or "" for target in classes]
    unique = {  # two classes may have one name, e.g. ImageNet's two cranes
        target: name if names.count(name) == 1 else f"{name} ({target})"
        for target, name in zip(classes, names, strict=True)
    }
    return {unique[target]: classes[target] for target in sorted(classes)}


def _bars(classes: Mapping[str, list[SampleOutcome]], title: str) -> Tensor:
    most = sorted(classes, key=lambda name: -len(classes[name]))[:_MOST_CLASSES]
    if len(most) < len(classes):
        title += f" ({len(most)} of {len(classes)} classes, those with most samples)"
    sides = {"SESS": "hit"}
    if any(outcome.base_hit is not None for outcomes in classes.values() for outcome in outcomes):
        sides["base"] = "base_hit"
    groups = {}
    for name in (name for name in classes if name in most):
        groups[name] = [_bar([getattr(outcome, side) for outcome in classes[name]]) for side in sides.values()]
    return bars_figure(groups, list(sides), title)


def _bar(hits: list[bool | None]) -> Bar:
    counted = [hit for hit in hits if hit is not None]
    if not counted:
        return Bar(0.0, "none counted")
    share = sum(counted) / len(counted)
    return Bar(share, f"{share:.0%}  ({sum(counted)} of {len(counted)})")
