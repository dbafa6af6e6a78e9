"""Settings of the OpenMP threads of torch.

By default, waiting threads spin. If other programs use the same cores, a spinning thread takes time from the thread
that it waits for, and a run becomes many times slower. Sleeping threads cost little on a quiet machine
(``tests/benchmarks/threads.py``).
"""

import os
import sys
from pathlib import Path

WAIT_POLICY = "OMP_WAIT_POLICY"
CHOSEN_BY_USER = (WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # each variable sets how long threads spin
THREADS = "OMP_NUM_THREADS"


def wait_passively() -> bool:
    """Return True after setting OpenMP threads to sleep while they wait; False if too late.

    OpenMP reads the variable when torch loads, so the call must come before the first import of torch. A variable that
    the user has set stays as it is, and the result is False.
    """
    if "torch" in sys.modules or any(name in os.environ for name in CHOSEN_BY_USER):
        return False
    os.environ[WAIT_POLICY] = "PASSIVE"
    return True


def of_workers(count: int) -> dict[str, str]:
    """Return the environment variables that divide the cores among ``count`` processes.

    The result is empty if the user has set the number of threads.
    """
    if THREADS in os.environ:
        return {}
    return {THREADS: str(max(1, cores() // count))}


def cores(quota: "str | Path" = "/sys/fs/cgroup/cpu.max") -> int:
    """Return the number of cores that this process may use.

    Args:
        quota: File of Linux with the CPU time of a container per period, both in microseconds.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # the cores of a job, on some systems
    count = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    try:
        given, period = Path(quota).read_text(encoding="utf-8-sig").split()
        return max(1, min(count, round(int(given) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # another system, or "max" for no limit
        return count


PASSIVE = wait_passively()
"""True if graft has set the wait policy."""


def notice() -> str:
    """Return the message about the wait policy; empty if graft has not set it."""
    if not PASSIVE:
        return ""
    return f"threads sleep while they wait ({WAIT_POLICY}=PASSIVE), which suits shared machines; set it to change this"
