"""What watches a key of the callback's, and whether that key can ever have a value."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import lightning.pytorch as pl
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torchmetrics import Metric

from sess_lightning.callback.alarm import FEWEST
from sess_lightning.callback.chosen_metrics import logged_names
from sess_lightning.callback.keys import (
    ALARMS,
    BASE,
    KEYS,
    OVERALL,
    PHOTOS,
    PHOTOS_PART,
    POINTING,
    full_name,
    key_name,
)
from sess_lightning.callback.sample_values import GAIN

_LOADER = re.compile(r"/dataloader_idx_\d+$")
_POINTING = (POINTING.name, BASE + POINTING.name)
_OURS = {key.name for key in KEYS} | {BASE + key.name for key in KEYS if key.per_method}  # of any SESSCallback


class Monitor(NamedTuple):
    """Something that reads a key of the callback's: its kind, the key, and whether it fails where there is none."""

    who: str
    key: str
    strict: bool


def monitors_of(trainer: pl.Trainer, prefix: str) -> list[Monitor]:
    """All that read a key that begins with the prefix; the trainer has its callbacks and optimizers."""
    found = []
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        stops = is_kind(callback, "EarlyStopping")
        if (stops or is_kind(callback, "ModelCheckpoint")) and callback.monitor:
            strict = callback.strict if stops else callback.save_top_k != 0
            found.append(Monitor(type(callback).__name__, callback.monitor, strict))
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau and config.monitor:
            found.append(Monitor("a plateau scheduler", config.monitor, config.strict))
    return [monitor for monitor in found if monitor.key.startswith(f"{prefix}/")]


def is_kind(callback: Any, name: str) -> bool:
    """Whether a callback is of the class with this name, of `lightning.pytorch` or its twin `pytorch_lightning`."""
    return any(kind.__name__ == name for kind in type(callback).__mro__)


class MonitorPause:
    """Keeps what watches a key from reading a stale value, from a validation that gave none until one that gives it.

    A key without a value is taken out of `trainer.callback_metrics`; what would fail for the lack of it is told not to:
    `EarlyStopping` and plateau schedulers are not strict meanwhile, and `ModelCheckpoint` saves nothing by the key.
    """

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def renew(self, trainer: pl.Trainer, stale: Collection[str]) -> None:
        """End the pause of the validation before, and begin one for these keys."""
        self.end()
        for key in stale:
            trainer.callback_metrics.pop(key, None)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if is_kind(callback, "EarlyStopping") and callback.monitor in stale:
                self._set(callback, "strict", False)
            if is_kind(callback, "ModelCheckpoint") and callback.monitor in stale:
                self._set(callback, "save_top_k", 0)
        for config in trainer.lr_scheduler_configs:
            if config.reduce_on_plateau and config.monitor in stale:
                self._set(config, "strict", False)

    def end(self) -> None:
        """Give all that was told otherwise its own setting back."""
        while self._before:
            owner, name, value = self._before.pop()
            setattr(owner, name, value)

    def _set(self, owner: Any, name: str, value: Any) -> None:
        self._before.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)


def possible_names(metrics: Mapping[str, Metric], compare_base: bool, alarm: bool) -> set[str] | None:
    """Names of all that may be logged, without prefix and loader; `None` where a metric of the user's gives several."""
    if any(type(metric).__module__.split(".")[0] != "sess_lightning" for metric in metrics.values()):
        return None
    names = {key_name(name) for name in metrics}
    differences = {key.name for key in KEYS if key.difference and {part.name for part in key.difference} <= names}
    paired = {BASE + name for name in differences} | {one for pair in metrics.items() for one in logged_names(*pair)}
    standing = {key.name for key in KEYS if not key.per_method and key.metric is None and (alarm or key is not ALARMS)}
    return names | differences | standing | (paired if compare_base else set())


def possible_intervals(names: set[str]) -> set[str]:
    """Names that `intervals=True` may log beside these."""
    gains = {name + GAIN for name in names if BASE + name in names}
    return gains | {one + end for one in gains | (names & set(_POINTING)) for end in ("_low", "_high")}


def check_names(monitors: Iterable[Monitor], prefix: str, names: Collection[str]) -> None:
    """Say which monitors read a key that this callback never logs.

    Raises:
        MisconfigurationException: if the monitor would fail for the lack of it.
    """
    for monitor in monitors:
        name = _bare(monitor.key, prefix)
        if name in names:
            continue
        near = get_close_matches(name, names, n=1)
        hint = f" Did you mean {f'{prefix}/{near[0]}'!r}?" if near else ""
        known = ", ".join(f"{prefix}/{one}" for one in sorted(names))
        strict = monitor.strict and (bool(near) or name in _OURS)  # else the module may log it
        _complain(
            monitor._replace(strict=strict),
            f"{monitor.who} monitors {monitor.key!r}, which this SESSCallback never logs.{hint} It logs {known}: "
            "`metrics` says which of them are measured, `compare_base` whether those of the base method are, `alarm` "
            "whether the number of alarms is.",
        )


def check_batches(
    monitors: Sequence[Monitor],
    prefix: str,
    suffixes: Mapping[int, str],
    annotated: Mapping[int, Collection[bool | None]],
    several: bool,
) -> None:
    """Before training where there is a sanity check: do the loaders and batches have what is monitored?

    Args:
        monitors: of this callback's keys.
        prefix: of the keys.
        suffixes: last part of the keys, by number of the loader that the callback watches.
        annotated: by number of the loader, whether batches hold objects, as each process found; `None` without a batch.
        several: whether there are several validation loaders.

    Raises:
        MisconfigurationException: if a monitor would fail for the lack of it.
    """
    situation = f"{'several' if several else 'one'} validation loader{'s' if several else ''}"
    check_loaders(monitors, prefix, suffixes.values(), "`photos`" if PHOTOS in suffixes else situation)
    for number, suffix in suffixes.items():
        if False in annotated[number] and True not in annotated[number]:
            check_pointing(monitors, prefix, suffix, "photos" if number == PHOTOS else "validation batches")


def check_loaders(monitors: Iterable[Monitor], prefix: str, parts: Collection[str], situation: str) -> None:
    """Say which monitors name no loader where there are several, or one that is not watched.

    Args:
        monitors: of this callback's keys.
        prefix: of the keys.
        parts: of the keys of what the callback watches, as `full_name` takes them.
        situation: what these follow from.

    Raises:
        MisconfigurationException: if the monitor would fail for the lack of it.
    """
    for monitor in monitors:
        name = _bare(monitor.key, prefix)
        possible = [full_name(name, prefix, part) for part in parts]
        if monitor.key in possible or name not in _OURS:
            continue
        _complain(
            monitor,
            f"{monitor.who} monitors {monitor.key!r}, but with {situation} the key is "
            f"{' or '.join(map(repr, possible))}.",
        )


def check_pointing(monitors: Iterable[Monitor], prefix: str, suffix: str, what: str = "validation batches") -> None:
    """Say which monitors read what needs boxes or masks, of a loader whose batches, or of photos, which hold none.

    Raises:
        MisconfigurationException: if the monitor would fail for the lack of it.
    """
    for monitor in monitors:
        if monitor.key in {full_name(name, prefix, suffix) for name in (*_POINTING, ALARMS.name)}:
            _complain(
                monitor,
                f"{monitor.who} monitors {monitor.key!r}, but the {what} hold no boxes and no masks to "
                f"measure it by. Give them as detection targets or by batch_to_samples=, or monitor "
                f"{full_name(OVERALL.name, prefix, suffix)}.",
            )


def check_values(
    monitors: Iterable[Monitor], prefix: str, logged: Collection[str], measured: Iterable[str], alarm: bool
) -> None:
    """After the first validation: say which monitors read the key of a metric that has no value yet.

    Args:
        monitors: of this callback's keys.
        prefix: of the keys.
        logged: keys that have a value, or may have one as soon as the network is right.
        measured: names of the keys of the callback's metrics, without prefix.
        alarm: whether the number of alarms is looked for.

    Raises:
        MisconfigurationException: if the monitor would fail for the lack of it.
    """
    names = set(measured)
    for monitor in monitors:
        name = _bare(monitor.key, prefix)
        if monitor.key in logged:
            continue
        if name in _POINTING:
            _complain(
                monitor,
                f"{monitor.who} monitors {monitor.key!r}, but no sample followed has an object of the class that was "
                "explained for it. Follow more samples (`num_samples`), or those that have one (`indices`), or explain "
                "the label (`target`).",
            )
        elif name == ALARMS.name:
            _complain(
                monitor,
                f"{monitor.who} monitors {monitor.key!r}, but "
                + (
                    f"fewer than {FEWEST} of the samples followed have a known label and an object of its class, which "
                    "was explained for it: too few to judge. Follow more samples (`num_samples`), or those that have "
                    "one (`indices`), or explain the label (`target`)."
                    if alarm
                    else "alarm=False says not to look for any."
                ),
            )
        elif monitor.strict and name.removeprefix(BASE) in names:
            _complain(
                monitor,
                f"{monitor.who} monitors {monitor.key!r}, which has no value in the first validation, as its metric "
                "gave NaN: SaliencyDrift, for one, compares with the validation before. Pass strict=False to "
                "EarlyStopping or to the plateau scheduler; a ModelCheckpoint cannot wait, so let it monitor another "
                "key.",
            )


def _bare(key: str, prefix: str) -> str:
    """The name in a key, without prefix, loader and photos."""
    return _LOADER.sub("", key).removeprefix(prefix).removeprefix(PHOTOS_PART).removeprefix("/")


def _complain(monitor: Monitor, message: str) -> None:
    if monitor.strict:
        raise MisconfigurationException(message)
    rank_zero_warn(message)
