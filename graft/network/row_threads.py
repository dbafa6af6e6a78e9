"""Calls of a network with parts of a batch, one part for each core of the processor.

The operations of a small network are short. Threads within an operation wait for each other at its end, so they gain
little; threads that each take some rows through the whole network wait once. The noise is still drawn for the whole
batch, so the draws are those of the whole batch, up to rounding in batches of another size.

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

FEWEST_ROWS = 16
"""Number of rows below which a part is not worth a thread."""


def in_row_threads(model: Model) -> Model:
    """Return ``model``, called in as many threads as torch may use, each with a part of the rows.

    The whole batch is one call on other devices than the processor, with gradients, or if there are few rows.
    """

    def called(state: State, time: Tensor, condition: Condition) -> State:
        count = size(state)
        threads = min(torch.get_num_threads(), count // FEWEST_ROWS)
        on_processor = all(field.device.type == "cpu" for field in fields_of(state))
        if threads < 2 or not on_processor or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return model(state, time, condition)
        bounds = [round(i * count / threads) for i in range(threads + 1)]
        pool, context = _pool(torch.get_num_threads(), os.getpid()), _context()

        def part(rows: slice) -> State:
            with context():
                return model(take(state, rows), time[rows], take(condition, rows))

        return cat(list(pool.map(part, map(slice, bounds[:-1], bounds[1:]))))

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
