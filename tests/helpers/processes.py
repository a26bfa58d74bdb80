"""Processes for tests, forked from a server that has imported the package: importing it takes seconds each time.

The server is a fresh interpreter with one thread, started once by each process that runs tests. Thus a child inherits
nothing from the tests that ran before it, as with "spawn".
"""

import multiprocessing
import os
import socket

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


def start_command(main, words, count):
    """Processes that run a command together as torchrun would start them, one a rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [started(_of_rank, main, words, {**together, "RANK": rank, "LOCAL_RANK": rank}) for rank in range(count)]


def _of_rank(main, words, environment):
    os.environ.update({name: str(value) for name, value in environment.items()}, TORCHELASTIC_RUN_ID="test")
    code = main(words)
    if code:
        raise SystemExit(code)


def ended(processes, timeout=120):
    """The exit codes of processes, once all have ended."""
    for process in processes:
        process.join(timeout)
    return [process.exitcode for process in processes]
