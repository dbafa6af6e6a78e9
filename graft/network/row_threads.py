"""Calls of a network with parts of a batch, in several threads of the processor.

The operations of a small network are short. Threads within an operation wait for each other at its end, so they gain
little; threads that each take some rows through the whole network wait once. The parts have a fixed number of rows, so
the samples do not depend on the number of threads. The noise is still drawn for the whole batch.

A network says with its attribute ``thread_safe = True`` that several threads may call it at once: it keeps nothing
between calls that another call may change.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import cache
from threading import Barrier
from typing import Any

import torch
from torch import Tensor

from graft.core.state import Condition, State, cat, fields_of, size, take
from graft.process import Model

PART = 64
"""Number of rows of a part: enough that operations are not too short, few enough for the caches of a core."""


def in_row_threads(model: Model) -> Model:
    """Return ``model``, called with parts of the rows, in as many threads as torch may use.

    The whole batch is one call on other devices than the processor, with gradients, or if it is no larger than a part.
    """

    def called(state: State, time: Tensor, condition: Condition) -> State:
        count = size(state)
        on_processor = all(field.device.type == "cpu" for field in fields_of(state))
        if count <= PART or not on_processor or torch.is_grad_enabled():
            return model(state, time, condition)
        context = _context()

        def part(start: int) -> State:
            rows = slice(start, start + PART)
            with context():
                return model(take(state, rows), time[rows], take(condition, rows))

        threads, starts = torch.get_num_threads(), range(0, count, PART)
        return cat(list(map(part, starts) if threads == 1 else _pool(threads, os.getpid()).map(part, starts)))

    return called


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Return a pool whose threads use one thread of OpenMP each; a forked process needs its own."""
    barrier = Barrier(threads + 1)

    def start() -> None:
        torch.get_num_threads()  # sets the number of a new thread; later it would overwrite the next line
        torch.set_num_threads(1)
        barrier.wait()

    pool = ThreadPoolExecutor(threads, "rows", initializer=start)
    for _ in range(threads):
        pool.submit(int)
    barrier.wait()
    torch.set_num_threads(threads)  # the number of a thread that starts later, which the pool's threads have set
    return pool


def _context() -> Callable[[], ExitStack]:
    """Return a function that enters this thread's precision and modes of gradients in another thread."""
    enabled, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    inference = torch.is_inference_mode_enabled()

    def enter() -> ExitStack:
        stack = ExitStack()
        modes: list[Any] = [torch.inference_mode(inference), torch.no_grad(), torch.autocast("cpu", dtype, enabled)]
        for mode in modes:
            stack.enter_context(mode)
        return stack

    return enter
