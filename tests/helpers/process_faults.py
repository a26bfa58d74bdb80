"""Work of the callback that fails by seed, on one of two processes."""

import random
import warnings

import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import CSVLogger

from sess_lightning.callback.recording import Recorder
from tests.helpers.process_fits import SMALL, Counting, Kept, fit
from tests.helpers.training import small_sess

RECORD = ("tiles", "files", "line")
WORK = ("begin", "reset", "target", "update", "explain", "parts", "compute", "image", "values", *RECORD)


class Unsafe:
    """Raises in one kind of work on one process, for each validation but the first drawn by seed out of all."""

    def __init__(self, on):
        self.random, self.on, self.raised, self.callback = random.Random(7), on, [], None
        self.number, self.left = 0, [None]

    def __call__(self, work):
        number = self.callback.validations
        if number > self.number:
            self.number, self.left = number, self.left[1:] or self.random.sample([*WORK, None, None], len(WORK) + 2)
        if self.on and number > 1 and self.left[0] == work:
            self.raised.append(work)
            raise OSError("bad luck")

    def target(self, samples, logits):
        self("target")
        return samples.labels


class Taped(Recorder):
    """A recorder that is as unsafe: on each rank where it makes its tiles, on rank 0 where it writes them."""

    unsafe = None  # of the class, as there is a new one for each stage

    def _rows(self, tracker):
        self.unsafe("tiles")
        return super()._rows(tracker)

    def _open(self, trainer):
        self.unsafe("files")
        super()._open(trainer)

    def append(self, *arguments):
        super().append(*arguments)
        with self._tried():
            if self._writers:
                self.unsafe("line")


class Risky(Counting):
    """Its own work at each hook is as unsafe."""

    def __init__(self, unsafe, **options):
        super().__init__(small_sess(), target=unsafe.target, **options)
        self.unsafe, unsafe.callback = unsafe, self

    def _start_stage(self, world_size):
        super()._start_stage(world_size)
        self.recorder = Taped(True, self.reporter, world_size, False)

    def _begin_trackers(self, *arguments):
        self.unsafe("begin")
        super()._begin_trackers(*arguments)

    def _explain_samples(self, *arguments):
        super()._explain_samples(*arguments)
        self.unsafe("explain")

    def _parts(self, *arguments):
        self.unsafe("parts")
        return super()._parts(*arguments)

    def _values(self, *arguments):
        found = super()._values(*arguments)
        self.unsafe("values")
        return found


class Board(CSVLogger):
    """Draws, and is as unsafe; on rank 0 only."""

    unsafe = None

    def log_image(self, *arguments, **options):
        self.unsafe("image")


Board.__name__ = "WandbLogger"  # loggers are known by name


class Unlucky(Kept):
    """A metric that is as unsafe."""

    unsafe = None  # of the class, as metrics are cloned

    def update(self, images):
        self.unsafe("update")
        super().update(images)

    def compute(self):
        self.unsafe("compute")
        return super().compute()

    def reset(self):
        self.unsafe("reset")
        super().reset()


def faults(rank, folder, faulty=1, epochs=30):
    unsafe = Unlucky.unsafe = Board.unsafe = Taped.unsafe = Unsafe(rank == faulty)
    callback = Risky(unsafe, metrics={"kept": Unlucky()}, **SMALL)
    _, bare = fit(folder, None, max_epochs=epochs)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stopping = EarlyStopping("sess/kept", patience=999)
        t, module = fit(folder, callback, stopping, max_epochs=epochs, logger=rank == 0 and Board(folder))
    same = all(torch.equal(one, other) for one, other in zip(bare.parameters(), module.parameters(), strict=True))
    told = sum("skips this validation" in str(w.message) for w in caught)
    lines = [line for file in folder.rglob("validations.jsonl") for line in file.read_text().splitlines()]
    return {"epochs": t.current_epoch, "same": same, "raised": unsafe.raised, "told": told,
            "validations": callback.validations, "lines": len(lines)}  # fmt: skip


def faults_of_rank_0(rank, folder):
    return faults(rank, folder, faulty=0)
