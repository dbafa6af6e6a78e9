"""What a round spends on sampling, scoring and training, as `graft fit` does it on the default molecules.

python tests/benchmarks/scoring.py
"""

import tempfile
import time

import torch

import graft
from graft.rollouts import Rollouts

ROUNDS = 1


def timed(cls, name, spent):
    method = getattr(cls, name)

    def wrapper(*args, **kwargs):
        started = time.perf_counter()
        try:
            return method(*args, **kwargs)
        finally:
            spent.setdefault(name, []).append(time.perf_counter() - started)

    setattr(cls, name, wrapper)


def main():
    torch.set_num_threads(1)
    spent: dict[str, list[float]] = {}
    for name in ("_sample", "_score", "_round"):
        timed(Rollouts, name, spent)
    with tempfile.TemporaryDirectory() as folder:
        module, data, trainer = graft.load(
            "domains/molecule.yaml",
            f"--trainer.max_epochs={ROUNDS}",
            "--data.validation_draws=0",
            "--data.test_draws=64",
        )
        started = time.perf_counter()
        graft.fit(module, data, folder, trainer)
        whole = time.perf_counter() - started
    for number in range(ROUNDS):
        print(f"round {number + 1}: sampling {spent['_sample'][number]:.2f} s, scoring {spent['_score'][number]:.2f} s")
    scoring = sum(spent["_score"])
    print(f"scoring is {scoring / whole:.1%} of {whole:.1f} s for {ROUNDS} rounds")


if __name__ == "__main__":
    main()
