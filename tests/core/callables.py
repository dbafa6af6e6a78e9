"""Rewards as a user may write them; the worker process imports this module by name."""

import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

calls = 0


def square(x: float) -> float:
    return x * x


def first(x: Any) -> float:
    return float(x[0])


def process_id(x: float) -> float:
    return float(os.getpid())


def counter(x: float) -> float:
    global calls
    calls += 1
    return float(calls)


def troubled(x: float) -> Any:
    """Works for numbers up to 10; above, each fails in its own way."""
    ways = {
        11: lambda: 1 / 0,
        12: lambda: time.sleep(60),
        13: lambda: math.nan,
        14: lambda: os._exit(3),
        15: lambda: None,
        16: lambda: math.inf,
        17: lambda: sys.exit("bye"),
        18: lambda: lambda: 1.0,
        19: lambda: "high",
        20: lambda: os.kill(os.getpid(), 9),
    }
    return ways.get(int(x), lambda: x + 0.5)()


def faulty(call: tuple[str, float]) -> Any:
    """Work, or do what the argument names."""
    kind, number = call
    ways = {
        "work": lambda: number + 0.5,
        "raise": lambda: 1 / 0,
        "hang": lambda: time.sleep(60),
        "exit": lambda: os._exit(3),
        "kill": lambda: os.kill(os.getpid(), 9),
        "leave": lambda: sys.exit("bye"),
        "nan": lambda: math.nan,
        "infinite": lambda: -math.inf,
        "none": lambda: None,
        "text": lambda: "0",
        "list": lambda: [number],
        "unsendable": lambda: lambda: 1.0,
    }
    return ways[kind]()


def faulty_batch(calls: list[tuple[str, float]]) -> list[Any]:
    return [faulty(call) for call in calls if call[0] != "short"]


def starts_another(path: str) -> float:
    """A program of its own, and both hang."""
    child = subprocess.Popen(["sleep", "60"])
    with open(path, "w") as file:
        file.write(str(child.pid))
    return float(child.wait())


def talkative(x: float) -> float:
    print("scoring", x, "\x00" * 100, flush=True)
    sys.stdout.write("more")
    os.write(1, b"and more, past Python's own buffers\n")
    os.system("echo from a shell")
    return x


def squares(xs: list[float]) -> list[float]:
    return [x * x for x in xs]


def troubled_batch(xs: list[float]) -> list[Any]:
    return [troubled(x) for x in xs]


def numpy_batch(xs: list[float]) -> Any:
    import numpy as np

    return np.asarray(xs, dtype=np.float32) * 2


def one_short(xs: list[float]) -> list[float]:
    return list(xs)[1:]


def no_list(xs: list[float]) -> float:
    return 1.0


not_callable = 3.0


leaked: list[Any] = []


def leaks_memory(x: float) -> float:
    """Keep 64 MiB of each call, where the process may have 512 MiB more than at its start."""
    import resource

    if not leaked:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 2**29
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    leaked.append(bytearray(2**26))
    return x


def leaks_files(x: float) -> float:
    """Keep four files of each call open, of 32 that the process may have."""
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    leaked.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(4))
    return x


def fatal_once(call: tuple[str, float]) -> float:
    """Return the number and a half; the first call with a path kills its process and leaves the file."""
    path, number = call
    if path and not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), 9)
    return number + 0.5


def slow(x: float) -> float:
    """Return the number; a negative one takes a minute."""
    time.sleep(60 if x < 0 else 0)
    return x
