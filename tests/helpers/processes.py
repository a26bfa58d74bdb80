"""Processes for tests, forked from a server that has imported the package: importing it takes seconds each time.

The server is a fresh interpreter with one thread, started once by each process that runs tests. Thus a child inherits
nothing from the tests that ran before it, as with "spawn".
"""

import multiprocessing

import torch
from lightning.pytorch.strategies import DDPStrategy

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.helpers.processes", "tests.helpers.training", "sess_lightning.cli"])


def started(function, *arguments):
    """A running process that calls the function."""
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    return process


def run_in_two(function, *arguments):
    """Call `function(rank, *arguments)` in two processes and wait for both."""
    torch.multiprocessing.start_processes(function, arguments, nprocs=2, start_method="forkserver")


def two_devices():
    """Options of a Trainer that runs on two gloo processes."""
    return {"strategy": DDPStrategy(start_method="forkserver"), "devices": 2}
