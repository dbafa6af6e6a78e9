"""Compare the throughput of two samplers in pairs of runs, so that the load of the machine changes both."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch


def compare_throughput(ours: Callable[[int], Any], plain: Callable[[int], Any], draws: int, pairs: int) -> None:
    """Print the throughput of graft's sampler and its ratio to that of a plain loop, by processor time.

    Args:
        ours: Function from a seed to a dict of tensors, by graft.
        plain: The same by the plain loop, with the same random numbers.
        draws: Number of samples of a run.
        pairs: Number of pairs of runs.

    Raises:
        AssertionError: The two do not give the same samples.
    """
    first = plain(0)
    for name, field in ours(0).items():
        torch.testing.assert_close(field, first[name], rtol=1e-3, atol=1e-3)
    ratios, rates = [], []
    for seed in range(pairs):
        took = {}
        for function in (ours, plain) if seed % 2 else (plain, ours):
            started = time.process_time()
            function(seed)
            took[function] = time.process_time() - started
        ratios.append(took[plain] / took[ours])
        rates.append(draws / took[ours])
    print(f"samples a second of processor time by graft: {statistics.median(rates):.0f}")
    print(
        f"throughput over the plain loop's: median {statistics.median(ratios):.3f}, "
        f"{min(ratios):.3f} to {max(ratios):.3f} over {pairs} pairs"
    )
