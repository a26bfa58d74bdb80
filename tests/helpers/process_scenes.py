"""What two processes do in tests/callback/test_processes.py, one scene after the other."""

import os
import time
import warnings
from datetime import timedelta
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchmetrics import Metric

from sess_lightning import SESS, SESSCallback
from sess_lightning.callback.recording import Recorder
from sess_lightning.metrics import InsertionAUC, PointingGame
from tests.helpers.following import CALLS, CallingModule, Reference, data, numbers
from tests.helpers.following import ours as following
from tests.helpers.nets import seeded
from tests.helpers.process_faults import faults, faults_of_rank_0
from tests.helpers.process_fits import SMALL, Counting, Kept, fit, logged
from tests.helpers.shortcuts import ReadsTheCorner, marked
from tests.helpers.training import Module, Pictures, loader, small_sess, trainer


class Own(Metric):
    """Not synchronised: its value on rank 0, NaN elsewhere; raises on the rank and in the validation it is told."""

    full_state_update = False

    def __init__(self, value, raises=None):
        super().__init__(sync_on_compute=False)
        self.value, self.raises, self.computed = value, raises, 0
        self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, saliency):
        self.count += len(saliency)

    def compute(self):
        self.computed += 1
        rank = torch.distributed.get_rank()
        if self.raises == (rank, self.computed):
            raise RuntimeError("seldom, and on one process")
        return torch.tensor(self.value if rank == 0 else float("nan"))


class Uneven(IterableDataset):
    """Five pictures on the first process, none on the other."""

    def __iter__(self):
        pictures = Pictures()
        return iter([pictures[i] for i in range(5 if torch.distributed.get_rank() == 0 else 0)])


class NoStep(pl.Callback):
    """No batch of the training may come."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        raise AssertionError("training has begun")


def logger_on_one(rank, folder):
    logger = TensorBoardLogger(folder / "board") if rank == 0 else False
    t, _ = fit(folder, SESSCallback(small_sess(), **SMALL), logger=logger, max_epochs=1)
    events = [file.read_bytes() for file in (folder / "board").rglob("events*")]
    return {"written": bool(events), "waited": any(b"the slowest" in one for one in events), **logged(t)}


def values(rank, folder):
    def slow(samples, logits):
        if rank == 1:
            time.sleep(0.3)
        return samples.labels

    metrics = {"own": Own(0.75), "kept": Kept(), "pointing": PointingGame()}
    callback = SESSCallback(small_sess(), metrics=metrics, target=slow, **{**SMALL, "indices": [0, 1, 2, 4, 6]})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        t, _ = fit(folder, callback, max_epochs=1, validation=loader("targets"))
    tracker = callback._trackers[0]
    advised = any("sync_dist" in str(w.message) for w in caught)
    return {"mine": tracker.seconds, "times": tracker.process_seconds, "advised": advised, **logged(t)}


def no_batch(rank, folder):
    callback = SESSCallback(small_sess(), metrics={"kept": Kept()}, **SMALL)
    # Broadcasting buffers would itself be a call that the process without a batch misses.
    strategy = DDPStrategy(broadcast_buffers=False)
    t, _ = fit(folder, callback, max_epochs=1, validation=DataLoader(Uneven(), batch_size=2), strategy=strategy)
    return logged(t)


def fails_once(rank, folder):
    """The third of five validations fails on process 1, in `target`; the fourth in a metric's `compute`."""

    def target(samples, logits):
        if rank == 1 and callback.validations == 3:
            raise RuntimeError("not this time")
        return samples.labels

    metrics = {"insertion": InsertionAUC(), "own": Own(0.5, raises=(1, 3))}
    callback = Counting(small_sess(), metrics=metrics, target=target, **SMALL)
    saving = ModelCheckpoint(folder / "best", "{epoch}", monitor="sess/insertion_auc", save_top_k=-1)
    stopping = EarlyStopping("sess/insertion_auc", patience=99)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        t, _ = fit(folder, callback, saving, stopping, max_epochs=5, enable_checkpointing=True)
    told = [str(w.message) for w in caught if "skips this validation" in str(w.message)]
    saved = sorted(path.stem for path in (folder / "best").glob("*.ckpt"))
    return {"told": told, "saved": saved, "epochs": t.current_epoch, "best": float(saving.best_model_score),
            "settings": (saving.save_top_k, stopping.strict), **logged(t)}  # fmt: skip


def fails_first(rank, folder):
    def target(samples, logits):
        if rank == 1:
            raise KeyError("no such class")
        return samples.labels

    try:
        fit(folder, SESSCallback(small_sess(), target=target, **SMALL), max_epochs=1)
    except Exception as error:
        return {"error": repr(error)}
    return {"error": None}


def wrong_on_one(rank, folder):
    """Without a sanity check, what is wrong must be found before the first step of any process."""
    options = {**SMALL, "indices": [999 if rank == 1 else 0]}
    try:
        fit(folder, SESSCallback(small_sess(), **options), max_epochs=1, num_sanity_val_steps=0)
    except Exception as error:
        return {"error": repr(error)}
    return {"error": None}


def unknown_class(rank, folder):
    """Likewise for a photo of the second process."""
    photos = list(zip(seeded(0, 2, 3, 40, 50), (0, 9), strict=True))
    callback = SESSCallback(SESS(num_scales=2, window_size=32), photos=photos, **SMALL)
    try:
        fit(folder, callback, NoStep(), max_epochs=1, num_sanity_val_steps=0)
    except Exception as error:
        return {"error": repr(error)}
    return {"error": None}


def resumed(rank, folder):
    """The second fit has more to choose from, so that the seed alone would choose otherwise."""
    found = {}

    def run(name, count, checkpoint, **options):
        callback = SESSCallback(small_sess(), **{**SMALL, **options})
        saving = ModelCheckpoint(folder / name, "{epoch}", every_n_epochs=1)
        torch.manual_seed(3)
        t = trainer(folder, callback, saving, strategy="ddp", devices=2, enable_checkpointing=True,
                    max_epochs=2 if checkpoint else 1)  # fmt: skip
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            t.fit(Module(), loader(), loader(count=count), ckpt_path=checkpoint)
        found[name] = sorted(callback._trackers[0].selection.positions)
        found[f"{name} told"] = [str(w.message) for w in caught if "of the checkpoint" in str(w.message)]
        return saving.best_model_path

    path = run("first", 40, None)
    run("same", 80, path)
    run("seed", 80, path, seed=1)
    run("more", 80, path, num_samples=6)
    run("fresh", 80, None)
    return found


def follows(rank, folder):
    """Rank 0 alone writes; DDP calls the step through the module itself, whose loss is no logit."""
    found = {}
    images, labels = data(21)
    for name, batch_size in (("self(x)", 4), ("self.net(x)", 4), ("self(x)", 1)):
        callback = following(folder / f"{name} {batch_size}", num_samples=4)
        reference = Reference(images, labels)
        validation = DataLoader(TensorDataset(images, labels), batch_size)
        fit(folder, callback, reference, module=CallingModule(CALLS[name]), validation=validation, max_epochs=4,
            logger=rank == 0 and CSVLogger(folder))  # fmt: skip
        kept = [None if one is None else {kind: list(one.losses[kind]) for kind in one.losses} for one in callback.kept]
        ours = [None if one is None else numbers(one.found["worst"], images) for one in callback.kept]
        new = [None if one is None else numbers(one.found["new_errors"], images) for one in callback.kept]
        found[f"{name} {batch_size}"] = {
            "losses": kept, "worst": ours, "new_errors": new, "rows": reference.rows,
            "expected": [reference.worst(number, 3) for number in range(4)],
        }  # fmt: skip
    return found


def warnings_are_errors(rank, folder):
    """A warning is told on rank 0 alone, and may be an error there: by what it says, what each process ends with."""

    def target(samples, logits):
        if rank == 1 and callback.validations == 2:
            raise RuntimeError("not this time")
        return samples.labels

    class Constant(Module):
        def forward(self, images):
            return 0 * super().forward(images)

    class Unwritten(Recorder):
        def append(self, *arguments):
            with self._tried():
                raise OSError("disk full")

    class Unrecorded(SESSCallback):
        def _start_stage(self, world_size):
            super()._start_stage(world_size)
            self.recorder = Unwritten(True, self.reporter, world_size, False)

    callback = Counting(small_sess(), metrics=(), target=target, **SMALL)
    quick = {**SMALL, "metrics": ()}
    lenient = {name: EarlyStopping(f"sess/{name}", strict=False) for name in ("overal", "pointing_acc")}
    blind = {"module": ReadsTheCorner(), "validation": marked()}
    found = {}
    for says, watch, others, options in (
        ("SESSCallback, epoch", SESSCallback(num_samples=24, metrics=(), num_images=0), (), blind),
        ("keeps to max_seconds", SESSCallback(small_sess(), max_seconds=1e-9, **quick), (), {}),
        ("cannot follow", SESSCallback(small_sess(), follow=("random", "new_errors"), **quick), (), {}),
        ("never logs", SESSCallback(small_sess(), **SMALL), (lenient["overal"],), {}),
        ("no boxes and no masks", SESSCallback(small_sess(), **SMALL), (lenient["pointing_acc"],), {}),
        ("got only constant", SESSCallback(small_sess(), **quick), (), {"module": Constant()}),
        ("works during validation", SESSCallback(small_sess(), **quick), (), {"limit_val_batches": 0}),
        ("skips this validation", callback, (), {"max_epochs": 3}),
        ("could not write", Unrecorded(small_sess(), **quick), (), {"logger": rank == 0 and CSVLogger(folder)}),
    ):
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=f"(?s).*{says}")
            try:
                fit(folder, watch, *others, **{"max_epochs": 2, **options})
                found[says] = None
            except Exception as error:
                found[says] = f"{type(error).__name__}: {error}"
    return found


SCENES = (logger_on_one, values, no_batch, fails_once, fails_first, wrong_on_one, unknown_class, resumed, faults,
          faults_of_rank_0, follows, warnings_are_errors)  # fmt: skip


def work(rank, folder):
    torch.set_num_threads(1)
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE="2")
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    found = {}
    for scene in SCENES:
        place = Path(folder) / scene.__name__
        place.mkdir(exist_ok=True)
        found[scene.__name__] = scene(rank, place)
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()
