"""What the loggers and the folder of a run are told beside the numbers: pictures, films, text, layout of charts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
from torch import Tensor

from sess_lightning.callback.evolution import Film
from sess_lightning.callback.explainer import Explained, Place, gathered, interleaved
from sess_lightning.callback.keys import metric_charts
from sess_lightning.callback.loggers import log_folder, log_image, log_layout, log_text
from sess_lightning.callback.run_text import run_text
from sess_lightning.callback.sample_rows import Look, draw_grid, map_rows
from sess_lightning.callback.saving import save_film, save_validation
from sess_lightning.callback.tracker import Curves, Watch
from sess_lightning.render import Bar, Line, bars_figure, curves_figure

Settings = tuple[Mapping[str, Any], Mapping[str, Any]]
_MOST_CLASSES = 24  # bars of one picture: more are not read


class Verdict(NamedTuple):
    """What is known about one followed sample without its pixels."""

    place: Place
    label: int
    target: int
    hit: bool | None
    base_hit: bool | None


class Story:
    """Tells what one `fit`, `validate` or `test` finds, in pictures and words. Process 0 writes; all must take part.

    Args:
        prefix: first part of every tag.
        num_images: samples drawn; with 0 nothing at all is told.
        every_n_epochs: pictures come every so many epochs of a `fit`.
        look: how samples are shown.
        save_dir: folder that gets the pictures too.
    """

    def __init__(self, prefix: str, num_images: int, every_n_epochs: int, look: Look, save_dir: str | None) -> None:
        self.prefix, self.num_images, self.every_n_epochs = prefix, num_images, every_n_epochs
        self.look, self.save_dir = look, save_dir
        self.charts: dict[str, dict[str, list[str]]] = {}
        self._introduced: set[str] = set()
        self._films: dict[str, Film] = defaultdict(Film)
        self._unable: dict[str, str] = {}

    def draws(self, trainer: pl.Trainer) -> bool:
        """Whether this validation is drawn: the same on every process."""
        due = trainer.state.fn != "fit" or trainer.current_epoch % self.every_n_epochs == 0
        return self._told(trainer) and due

    def tell(
        self, trainer: pl.Trainer, watch: Watch, suffix: str, values: Iterable[str], settings: Callable[[], Settings]
    ) -> None:
        """Tell of one loader's validation; every process must call this.

        Args:
            trainer: in a validation or test that is about to end.
            watch: what was found.
            suffix: behind every tag.
            values: names of what is logged as numbers.
            settings: gives those of SESS and of the callback.
        """
        if not self._told(trainer):
            return
        introduces, draws = suffix not in self._introduced, self.draws(trainer)
        self._introduced.add(suffix)
        curves = watch.curves(trainer.strategy) if draws else {}
        drawn = watch.found.part(0, watch.selection.share(self.num_images) if draws else 0)
        parts = gathered((drawn, _verdicts(watch.found)) if draws or introduces else None, trainer.world_size)
        if not trainer.is_global_zero:
            return
        look = self.look._replace(class_names=getattr(getattr(trainer, "datamodule", None), "class_names", None))
        self._lay_out(trainer, suffix, values)
        if not draws and not introduces:
            return
        verdicts = [verdict for _, one in parts for verdict in one]
        if introduces:
            samples = [(verdict.place, look.name(verdict.label)) for verdict in verdicts]
            text = run_text(*settings(), samples, watch.selection.how)
            log_text(trainer.loggers, f"{self.prefix}/run{suffix}", text, trainer.global_step)
        found = interleaved([one for one, _ in parts]).part(0, self.num_images)
        if draws and len(found):
            self._draw_maps(trainer, found, suffix, look)
            self._draw_numbers(trainer, curves, verdicts if watch.judge.measured else [], suffix, look)

    def end(self, trainer: pl.Trainer) -> None:
        """Write the films of a `fit` that ends or breaks off; a second call writes nothing."""
        films, self._films = dict(self._films), defaultdict(Film)
        for suffix, film in films.items():
            strip = film.strip()
            tag = self._show(trainer, "evolution", suffix, strip)
            folder = Path(self.save_dir) if self.save_dir is not None else log_folder(trainer.loggers)
            if folder is not None:
                save_film(folder, tag, strip, film.sheets())

    def complaints(self) -> Iterator[str]:
        """Loggers that could not show a picture, in words for the user."""
        for kind, tag in self._unable.items():
            yield f"SESSCallback cannot show images in {kind}: `{tag}` goes to the other loggers only."

    def _told(self, trainer: pl.Trainer) -> bool:
        return bool(self.num_images and (trainer.loggers or self.save_dir))

    def _lay_out(self, trainer: pl.Trainer, suffix: str, values: Iterable[str]) -> None:
        """Write the charts once there are any, and again when a metric has its first value later.

        A layout replaces the one before, so it has the charts of every `SESSCallback` of the trainer.
        """
        charts = metric_charts(values, self.prefix, suffix)
        category = self.prefix + suffix
        if not charts.keys() - self.charts.get(category, {}).keys():
            return
        self.charts[category] = charts
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        stories = [story for one in callbacks if isinstance(story := getattr(one, "_story", None), Story)]
        log_layout(trainer.loggers, {title: charts for story in stories for title, charts in story.charts.items()})

    def _draw_maps(self, trainer: pl.Trainer, found: Explained, suffix: str, look: Look) -> None:
        epoch, step = trainer.current_epoch, trainer.global_step
        grid = draw_grid(found, look, f"epoch {epoch} · step {step}")
        tag = self._show(trainer, "maps", suffix, grid)
        if self.save_dir is not None:
            save_validation(Path(self.save_dir), tag, step, grid, found)
        if trainer.state.fn == "fit":
            self._films[suffix].add(epoch, step, found.places, map_rows(found, look))

    def _draw_numbers(
        self,
        trainer: pl.Trainer,
        curves: Curves,
        verdicts: Iterable[Verdict],
        suffix: str,
        look: Look,
    ) -> None:
        title = f"epoch {trainer.current_epoch} · step {trainer.global_step}"
        if curves:
            self._show(trainer, "curves", suffix, _curves(curves, f"probability of the class, {title}"))
        classes = _by_class(verdicts, look)
        if len(classes) > 1:
            self._show(trainer, "pointing_per_class", suffix, _bars(classes, f"pointing accuracy by class, {title}"))

    def _show(self, trainer: pl.Trainer, name: str, suffix: str, picture: Tensor) -> str:
        tag = f"{self.prefix}/{name}{suffix}"
        for kind in log_image(trainer.loggers, tag, picture, trainer.global_step):
            self._unable.setdefault(kind, tag)
        return tag


def _verdicts(found: Explained) -> list[Verdict]:
    base_hits = found.base_hits or [None] * len(found)
    columns = found.places, found.labels.tolist(), found.targets.tolist(), found.hits, base_hits
    return [Verdict(*row) for row in zip(*columns, strict=True)]


def _curves(curves: Curves, title: str) -> Tensor:
    better = {"insertion": "higher is better", "deletion": "lower is better"}
    charts = {
        f"{mode}: {better[mode]}": [Line(f"{who} {area:.3f}", curve) for who, (curve, area) in lines.items()]
        for mode, lines in curves.items()
    }
    axes = {f"{mode}: {better[mode]}": f"pixels {mode[:-3]}ed, most salient first" for mode in curves}
    return curves_figure(charts, axes, title)


def _by_class(verdicts: Iterable[Verdict], look: Look) -> dict[str, list[Verdict]]:
    """The samples that count for pointing, by name of the class explained, in the order of the classes."""
    classes: dict[int, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        if verdict.hit is not None or verdict.base_hit is not None:
            classes[verdict.target].append(verdict)
    names = [look.name(target) or "" for target in classes]
    unique = {  # ImageNet has two cranes
        target: name if names.count(name) == 1 else f"{name} ({target})"
        for target, name in zip(classes, names, strict=True)
    }
    return {unique[target]: classes[target] for target in sorted(classes)}


def _bars(classes: Mapping[str, list[Verdict]], title: str) -> Tensor:
    most = sorted(classes, key=lambda name: -len(classes[name]))[:_MOST_CLASSES]
    if len(most) < len(classes):
        title += f" ({len(most)} of {len(classes)} classes, those with most samples)"
    sides = {"SESS": "hit"}
    if any(verdict.base_hit is not None for verdicts in classes.values() for verdict in verdicts):
        sides["base"] = "base_hit"
    groups = {}
    for name in (name for name in classes if name in most):
        groups[name] = [_bar([getattr(verdict, side) for verdict in classes[name]]) for side in sides.values()]
    return bars_figure(groups, list(sides), title)


def _bar(hits: list[bool | None]) -> Bar:
    counted = [hit for hit in hits if hit is not None]
    if not counted:
        return Bar(0.0, "none counted")
    share = sum(counted) / len(counted)
    return Bar(share, f"{share:.0%}  ({sum(counted)} of {len(counted)})")
