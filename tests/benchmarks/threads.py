"""Threads in operations and in rows: the default molecule network samples 128 draws in 8 steps.

Threads in operations are OpenMP's, which wait in one way or the other. Threads in rows are graft's
(`graft.network.row_threads`): each takes a part of the batch. Both are alone and with busy programs.

    python tests/benchmarks/threads.py [REPEATS]

Each setting has a process of its own, for OpenMP reads it once. Seconds, least and median.
"""

import os
import statistics
import subprocess
import sys
import time

OPERATIONS, ROWS = "--operations", "--rows"
SETTINGS = {
    "operations, threads spin": (OPERATIONS, {"OMP_WAIT_POLICY": "ACTIVE"}),
    "operations, OpenMP's default": (OPERATIONS, {"KMP_BLOCKTIME": "200"}),  # another OpenMP's, so graft chooses none
    "operations, threads sleep": (OPERATIONS, {"OMP_WAIT_POLICY": "PASSIVE"}),
    "one thread": (OPERATIONS, {"OMP_NUM_THREADS": "1"}),
    "rows in parts, one thread": (ROWS, {"OMP_NUM_THREADS": "1"}),
    "rows (graft's default)": (ROWS, {"OMP_WAIT_POLICY": "PASSIVE"}),
}


def sample(repeats: int, rows: bool) -> None:
    """Print the seconds of each repeat."""
    import torch

    import graft
    from graft.core import seeding
    from graft.network.row_threads import in_row_threads
    from graft.sampler import Stage, run_stages

    module, _, _ = graft.load("domains/molecule.yaml")
    module.eval()
    network = module.policy.reference_forward
    model = in_row_threads(network) if rows else network
    condition = module.sample_conditions(128, seeding.make_generator(0, "condition"))
    for _ in range(repeats + 1):
        began = time.perf_counter()
        with torch.no_grad():
            run_stages(
                [Stage(module.policy.process, model)],
                condition,
                8,
                (),
                seeding.make_generator(0, "noise"),
            )
        print(time.perf_counter() - began)


def main(repeats: int) -> None:
    """Print a row for each setting and number of busy programs."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    for busy in (0, 2):
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
        try:
            for name, (kind, environment) in SETTINGS.items():
                command = [sys.executable, __file__, kind, str(repeats)]
                done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
                seconds = [float(line) for line in done.stdout.split()[-repeats:]]  # the first one warms up
                print(f"{busy} busy programs, {name:<32} {min(seconds):7.2f} {statistics.median(seconds):7.2f}")
        finally:
            for other in others:
                other.kill()


if __name__ == "__main__":
    if sys.argv[1:2] in ([OPERATIONS], [ROWS]):
        sample(int(sys.argv[2]), sys.argv[1] == ROWS)
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
