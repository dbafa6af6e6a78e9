"""How OpenMP's threads wait: the default molecule network samples 128 draws in 8 steps, alone and with busy programs.

    python tests/benchmarks/threads.py [REPEATS]

Each setting has a process of its own, for OpenMP reads it once. Seconds, least and median.
"""

import os
import statistics
import subprocess
import sys
import time

SETTINGS = {
    "threads spin": {"OMP_WAIT_POLICY": "ACTIVE"},
    "OpenMP's default": {"KMP_BLOCKTIME": "200"},  # another OpenMP's setting, which keeps graft from choosing
    "threads sleep (graft's default)": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def sample(repeats: int) -> None:
    """Print the seconds of each repeat."""
    import torch

    import graft
    from graft.core import seeding
    from graft.sampler import Stage, run_stages

    module, _, _ = graft.load("domains/molecule.yaml")
    module.eval()
    condition = module.sample_conditions(128, seeding.make_generator(0, "condition"))
    for _ in range(repeats + 1):
        began = time.perf_counter()
        with torch.no_grad():
            run_stages(
                [Stage(module.policy.process, module.policy.reference_forward)],
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
            for name, environment in SETTINGS.items():
                command = [sys.executable, __file__, "--sample", str(repeats)]
                done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
                seconds = [float(line) for line in done.stdout.split()[-repeats:]]  # the first one warms up
                print(f"{busy} busy programs, {name:<32} {min(seconds):7.2f} {statistics.median(seconds):7.2f}")
        finally:
            for other in others:
                other.kill()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--sample"]:
        sample(int(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
