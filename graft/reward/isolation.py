"""Isolation of rewards in this process: process-wide settings are restored after a call."""

import contextlib
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


@contextlib.contextmanager
def isolated() -> Iterator[None]:
    """Restore process-wide settings after the block.

    They are the current folder, the random state of Python, NumPy and torch, the number of threads, torch's gradient
    mode, default type and device, deterministic algorithms, the handlers of signals and their mask, environment
    variables, the filters of warnings, the umask and the standard streams. Within `shared` the block is not isolated.
    """
    if getattr(_THREAD, "shared", False):
        yield
        return
    folder = _folder()
    environment = dict(os.environ)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    dtype, strict = torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()
    streams = sys.stdout, sys.stderr, sys.stdin
    listed: Any = warnings.filters  # the stubs declare an immutable type
    filters = list(listed)
    masks = os.umask(0o077)
    os.umask(masks)
    main = threading.current_thread() is threading.main_thread()  # only the main thread may set handlers
    handlers = {number: signal.getsignal(number) for number in _SIGNALS} if main else {}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, []) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        if blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        os.umask(masks)
        listed[:] = filters
        sys.stdout, sys.stderr, sys.stdin = streams
        if torch.are_deterministic_algorithms_enabled() != strict:
            torch.use_deterministic_algorithms(strict)
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)
        if torch.is_grad_enabled() != gradients:
            torch.set_grad_enabled(gradients)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if os.environ != environment:
            os.environ.clear()
            os.environ.update(environment)
        if folder is not None and _folder() != folder:
            with contextlib.suppress(OSError):  # the folder may be removed
                os.chdir(folder)


_THREAD = threading.local()


@contextlib.contextmanager
def shared() -> Iterator[None]:
    """Turn `isolated` off in this thread within the block.

    Threads share the settings of their process: one that restored them would undo the changes of others.
    """
    before, _THREAD.shared = getattr(_THREAD, "shared", False), True
    try:
        yield
    finally:
        _THREAD.shared = before


_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
]


def _folder() -> "str | None":
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None
