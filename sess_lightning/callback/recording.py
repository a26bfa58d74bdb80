"""Recording of every validation for the viewer: each process sends small tiles in the exchange, rank 0 writes them."""

from __future__ import annotations

import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from sess_lightning.callback.alarm import Alarm
from sess_lightning.callback.explainer import Explained, second_classes
from sess_lightning.callback.keys import (
    BACKGROUND_RELIANCE,
    BASE,
    DELETION,
    INSERTION,
    KEYS,
    OBJECT_RELIANCE,
    POINTING,
    full_name,
)
from sess_lightning.callback.loggers import log_report
from sess_lightning.callback.notable import NEW_ERRORS, RANDOM, WORST, Notable
from sess_lightning.callback.reporter import Reporter, Settings
from sess_lightning.callback.run_text import in_one_line
from sess_lightning.callback.sample_rows import picture_of
from sess_lightning.callback.tracker import LoaderTracker
from sess_lightning.metrics.objects import Objects, is_empty
from sess_lightning.viewer.outlines import outlines
from sess_lightning.viewer.reading import FORMAT, VERSION, Record
from sess_lightning.viewer.record import (
    KINDS,
    MOST_SAMPLES,
    RecordRow,
    RecordSample,
    RecordWriter,
    claim_folders,
    sample_id,
    versioned,
)
from sess_lightning.viewer.report import write_report
from sess_lightning.viewer.tiles import jpeg, tile

MOST_NOTABLE = 4
"""Samples of each other kind that a validation records beside the random ones: together at most a third of 32."""

MOST_NOTABLE_EVER = 256
"""Of these, how many a record holds: each has its image in it, and in the report."""

_WORDS = {WORST: "worst", NEW_ERRORS: "new_error"}
_COLUMNS = [before + key.name for key in (INSERTION, DELETION) for before in ("", BASE)]
_COLUMNS += [key.name for key in (OBJECT_RELIANCE, BACKGROUND_RELIANCE)]


class RecordPart(NamedTuple):
    """What one process tells of the samples of one loader; where that failed, why."""

    rows: list[RecordRow]
    error: str = ""


class Recorder:
    """Records one `fit`, `validate` or `test`. Only rank 0 writes; nothing here calls another process.

    What may fail or warn is to be called under the guard of `Exchange`: a warning may be an error, on rank 0 alone.

    Args:
        record: whether anything is recorded.
        reporter: that of the callback: what it does not report is not recorded either.
        world_size: number of processes.
        raises: a failure ends the run; else it is warned of once, and that validation has no line.

    Attributes:
        on: whether this validation is recorded; rank 0's `due`, which the others are told.
        page: the report as it was last written, on rank 0.
    """

    def __init__(self, record: bool, reporter: Reporter, world_size: int, raises: bool) -> None:
        self.record, self.on = record, False
        self._reporter, self._world_size, self._raises = reporter, world_size, raises
        self._parent, self._stage = Path(), ""
        self._version = 0
        self._parts: dict[str, list[RecordRow] | None] = {}  # of this validation, by suffix; None where it failed
        self._samples: dict[tuple[Any, ...], RecordSample] = {}  # those received, by suffix, id and place
        # Of the random samples, by suffix and id: another row of the same image is the same sample.
        self._keys: dict[str, dict[str, Hashable]] = defaultdict(dict)
        self._folders: dict[str, Path] = {}
        self._writers: dict[str, RecordWriter] = {}
        self._read: dict[Path, Record] = {}  # as the page read them last: the next time only new lines are read
        self._failed = self._appended = False
        self.page: Path | None = None
        self._unsent: Path | None = None

    def due(self, trainer: pl.Trainer) -> bool:
        """Whether this validation is to be recorded. Only rank 0 may have a logger: ask no other."""
        rehearses = trainer.sanity_checking or bool(getattr(trainer, "fast_dev_run", False))
        return self.record and not rehearses and self._reporter.reports(trainer)

    def share(self, tracker: LoaderTracker) -> RecordPart:
        """This process's part of the samples recorded. Does not raise."""
        if not self.on:
            return RecordPart([])
        try:
            with torch.inference_mode(False), torch.no_grad():
                return RecordPart(self._rows(tracker))
        except Exception:
            return RecordPart([], traceback.format_exc())

    def receive(
        self, trackers: Mapping[int, LoaderTracker], suffixes: Mapping[int, str], parts: Sequence[Mapping[int, Any]]
    ) -> None:
        """Take what all processes have shared, by number of the loader; on every process."""
        self._parts, self._appended = {}, False
        for writer in self._writers.values():
            writer.begin()
        for number, suffix in suffixes.items() if self.on else ():
            shared: list[RecordPart] = [one[number] for one in parts]
            tracker, mine = trackers[number], [one for one in shared if one.error]
            tracker.pictured = max(tracker.pictured, len(shared[tracker.rank].rows))
            rows = [row for several in zip_longest(*(one.rows for one in shared)) for row in several if row is not None]
            for row in rows:
                key = (suffix, row.id, row.key)
                row.sample = self._samples.setdefault(key, row.sample) if row.sample else self._samples.get(key)
            self._parts[suffix] = None if mine else rows
            if mine:
                with self._tried():
                    raise RuntimeError(f"A process could not record its samples:\n{mine[0].error}")

    def prepare(
        self, trainer: pl.Trainer, tracker: LoaderTracker, suffix: str, settings: Callable[[], Settings]
    ) -> None:
        """Write the files of a loader's validation, on rank 0; elsewhere nothing is done."""
        rows = self._parts.get(suffix)
        if rows is None or not trainer.is_global_zero:
            return
        with self._tried():
            self._open(trainer)
            if suffix not in self._writers:
                about = {**self._about(trainer, tracker, suffix, settings), "no_skill": _no_skill(rows)}
                self._writers[suffix] = RecordWriter(self._folders[suffix], about)
            if tracker.notable is not None:
                rows = self._with_notable(rows, tracker, tracker.notable, suffix)
            self._writers[suffix].prepare(rows, trainer.current_epoch, trainer.global_step)

    def append(
        self,
        suffix: str,
        values: Mapping[str, float],
        intervals: Mapping[str, Sequence[float]],
        alarms: Sequence[Alarm],
    ) -> None:
        """Write the line of the validation that was prepared, if there is one."""
        if suffix in self._writers:
            told = [(one.text, one.target) for one in alarms]
            with self._tried():
                self._appended = self._writers[suffix].append(values, intervals, told) or self._appended

    def report(self, trainer: pl.Trainer) -> None:
        """Write the page of all records of this stage anew, if one has a new line. A failure only warns.

        `validate` and `test` end with it, so the loggers get the page at once.
        """
        if not self._appended:
            return
        self._appended = False
        folders = [writer.folder for writer in self._writers.values()]
        page = self._parent / f"{versioned(self._stem('') + '_report', self._version)}.html"
        try:
            write_report(folders, page, read=self._read)
            self.page = self._unsent = page
        except Exception as error:
            self._warn("the page of its record", error)
        if trainer.state.fn != "fit":
            self.close(trainer)

    def close(self, trainer: pl.Trainer) -> None:
        """Hand the page to the loggers that can show one, at the end of a stage. A failure only warns."""
        page, self._unsent = self._unsent, None
        if page is None:
            return
        try:
            log_report(trainer.loggers, full_name("report", self._reporter.prefix, ""), page, trainer.global_step)
        except Exception as error:
            self._warn("the page of its record to a logger", error)

    def _rows(self, tracker: LoaderTracker) -> list[RecordRow]:
        found = tracker.found.part(0, tracker.selection.share(MOST_SAMPLES))
        columns = {name: values for name, values in tracker.values.items() if name in _COLUMNS}
        rows = []
        for i in range(len(found)):
            sample = None if i < tracker.pictured else self._sample(tracker, found, i)
            row = _row(found, i, tracker.sample_id(i), found.places[i], sample)
            row.values |= {name: round(column[i], 5) for name, column in columns.items()}
            rows.append(row)
        return rows

    def _with_notable(
        self, rows: Sequence[RecordRow], tracker: LoaderTracker, notable: Notable, suffix: str
    ) -> list[RecordRow]:
        """Say of every sample of which kinds it is, and add those that are not among the random ones."""
        by_id: dict[str, RecordRow] = {}
        keys, writer = self._keys[suffix], self._writers[suffix]
        for row in rows:
            row.values["kind"] = RANDOM
            keys[row.id] = row.key
            by_id.setdefault(row.id, row)
        added = []
        for kind, found in notable.found.items():
            for i in range(min(len(found), MOST_NOTABLE)):
                name = sample_id(found.images[i])
                if name in by_id:
                    if _WORDS[kind] not in by_id[name].values["kind"].split():
                        by_id[name].values["kind"] += f" {_WORDS[kind]}"
                    continue
                key = keys.get(name, NEW_ERRORS)  # the same for all: a row has pixels that no other has
                known = writer.knows(name, key)
                if not known and len(writer) >= MOST_SAMPLES + MOST_NOTABLE_EVER:
                    continue
                row = _row(found, i, name, key, None if known else self._sample(tracker, found, i))
                row.values["kind"] = _WORDS[kind]
                by_id[name] = row
                added.append(row)
        return [*rows, *added]

    def _sample(self, tracker: LoaderTracker, found: Explained, i: int) -> RecordSample:
        rank, batch, position = found.places[i]
        name = tracker.photo_names[batch] if tracker.photo_names else f"batch {batch}, number {position}"
        several = self._world_size > 1 and not tracker.photo_names
        height, width = found.images[i].shape[-2:]
        boxes, lines = _annotations(found.objects[i], (height, width))
        return RecordSample(
            picture=jpeg(picture_of(found.images[i], self._reporter.display)),
            width=width,
            height=height,
            name=f"process {rank}, {name}" if several else name,
            label=int(found.labels[i]) if found.labels[i] >= 0 else None,
            boxes=boxes,
            outlines=lines,
            annotated=found.objects[i] is not None and not is_empty(found.objects[i] or {}),
            windows=found.windows[i].tolist(),
            chance=tracker.hit_rule.chance(int(found.targets[i]), found.objects[i], (height, width)),
        )

    def _open(self, trainer: pl.Trainer) -> None:
        """Find folders for all loaders at once, so that those of one run have one version."""
        if self._folders:
            return
        stage = trainer.state.fn.value if trainer.state.fn else "fit"
        self._stage = "" if stage == "fit" else f"_{stage}"
        self._parent = self._reporter.folder(trainer)
        names = {f"{self._stem(suffix)}_record": rows or [] for suffix, rows in self._parts.items()}
        resumed = stage == "fit" and trainer.ckpt_path is not None
        folders, self._version = claim_folders(self._parent, names, resumed)
        self._folders = dict(zip(self._parts, folders, strict=True))

    def _stem(self, suffix: str) -> str:
        return f"{self._reporter.prefix}{self._stage}{suffix.replace('/', '_')}".replace("/", "_")

    def _about(
        self, trainer: pl.Trainer, tracker: LoaderTracker, suffix: str, settings: Callable[[], Settings]
    ) -> dict[str, Any]:
        names = tracker.class_names.names
        sess, mine = ({name: in_one_line(value) for name, value in one.items()} for one in settings())
        return {
            "format": FORMAT,
            "version": VERSION,
            "sess_lightning": sys.modules[__name__.partition(".")[0]].__version__,
            "created": time.time(),
            "prefix": self._reporter.prefix,
            "part": suffix.strip("/"),
            "stage": trainer.state.fn.value if trainer.state.fn else "fit",
            "settings": {"sess": sess, "callback": mine},
            "class_names": None if names is None else {str(index): str(name) for index, name in names.items()},
            "keys": [
                {name: getattr(key, name) for name in ("name", "title", "meaning", "better", "per_method")}
                for key in KEYS
            ],
            "tolerance": tracker.hit_rule.tolerance,
        }

    @contextmanager
    def _tried(self) -> Iterator[None]:
        """Warn of a failure, or raise it where failures end the run."""
        try:
            yield
        except Exception as error:
            if self._raises:
                raise
            self._warn("its record of this validation, which the viewer then lacks", error)

    def _warn(self, what: str, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            told = "".join(traceback.format_exception_only(error)).strip().rpartition("\n")[2]
            rank_zero_warn(f"SESSCallback could not write {what}. Further failures are not told. {told}")


def _row(found: Explained, i: int, name: str, key: Hashable, sample: RecordSample | None) -> RecordRow:
    maps = {"sess": found.maps[i], "base": found.base_maps[i] if found.base_maps else None}
    maps["second"] = found.second_maps[i]
    classes = second_classes(found.targets[i : i + 1], found.labels[i : i + 1], found.predictions[i : i + 1])
    return RecordRow(
        id=name,
        key=key,
        sample=sample,
        values=_values(found, i) | {"second": int(classes) if maps["second"] is not None else None},
        tiles={kind: tile(one, KINDS[kind]) for kind, one in maps.items() if one is not None},
        scores=found.patch_scores[i].tolist(),
    )


def _values(found: Explained, i: int) -> dict[str, Any]:
    """What is known of a sample, by column."""
    values: dict[str, Any] = {
        "target": int(found.targets[i]),
        "prediction": int(found.predictions[i]),
        "score": round(float(found.scores[i]), 5),
        "hit": found.hits[i],
        "valid": bool(found.valid[i]),
        "peak": _peak(found.maps[i], bool(found.valid[i])),
    }
    if found.base_maps:
        valid = bool(found.base_valid[i])
        values |= {"base_hit": found.base_hits[i], "base_valid": valid, "base_peak": _peak(found.base_maps[i], valid)}
    return values


def _no_skill(rows: Sequence[RecordRow]) -> dict[str, float]:
    """What the recorded samples score by chance, by name of the key; nothing where that is not known."""
    known = [row.sample.chance for row in rows if row.sample is not None and row.sample.chance is not None]
    return {POINTING.name: round(sum(known) / len(known), 5)} if known else {}


def _peak(saliency: Tensor, valid: bool) -> list[int] | None:
    """Column and row of the highest point, as the pointing game takes it; `None` where the map tells nothing."""
    if not valid:
        return None
    index = int(saliency.argmax())
    return [index % saliency.shape[1], index // saliency.shape[1]]


def _annotations(objects: Objects | None, size: tuple[int, int]) -> tuple[list[list[float]], list[list[Any]]]:
    """Boxes and outlines of all objects whose class is one of the model's."""
    if objects is None or is_empty(objects):
        return [], []
    labels = torch.as_tensor(objects["labels"]).reshape(-1).tolist()
    boxes: list[list[float]] = []
    if "boxes" in objects:
        for label, box in zip(labels, torch.as_tensor(objects["boxes"]).reshape(-1, 4), strict=True):
            if label >= 0 and torch.isfinite(box).all():
                boxes.append([label, *(round(float(one), 2) for one in box)])
    lines = [
        [label, line]
        for label, mask in zip(labels, objects.get("masks", ()), strict=False)
        if label >= 0
        for line in outlines(torch.as_tensor(mask), size)
    ]
    return boxes, lines
