"""Settings of OpenMP's threads, which compute torch's operations on a processor.

Threads that wait for one another spin by default. Where other programs use the same cores, each spin takes time that
the awaited thread needs, and a run becomes many times slower. Threads that sleep cost little on a quiet machine
(``tests/benchmarks/threads.py``).
"""

import os
import sys

WAIT_POLICY = "OMP_WAIT_POLICY"
CHOSEN_BY_USER = (WAIT_POLICY, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")  # each of them says how long threads spin
THREADS = "OMP_NUM_THREADS"


def wait_passively() -> bool:
    """Make OpenMP's threads sleep while they wait; return whether this had an effect.

    OpenMP reads the setting when torch loads it, so it must come before the first import of torch. A setting of the
    user's stays as it is.
    """
    if "torch" in sys.modules or any(name in os.environ for name in CHOSEN_BY_USER):
        return False
    os.environ[WAIT_POLICY] = "PASSIVE"
    return True


def of_workers(count: int) -> dict[str, str]:
    """Return the environment of ``count`` processes that share this machine's cores: a share of the cores for each.

    Empty if the user has set the number of threads.
    """
    if THREADS in os.environ:
        return {}
    affinity = getattr(os, "sched_getaffinity", None)  # the cores of a container or a job; not on every system
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return {THREADS: str(max(1, cores // count))}


PASSIVE = wait_passively()
"""Whether graft chose the way of waiting."""


def notice() -> str:
    """Return the sentence for the terminal; empty if graft has not changed anything."""
    if not PASSIVE:
        return ""
    return f"threads sleep while they wait ({WAIT_POLICY}=PASSIVE), which suits shared machines; set it to change this"
