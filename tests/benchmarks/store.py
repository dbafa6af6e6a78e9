"""A store of 100,000 draws: how long it takes to open, to accept by another rule, and how much memory that needs.

    python tests/benchmarks/store.py

The draws are random numbers in the shapes of the default molecule config, with two recorded levels.
"""

import resource
import tempfile
import time
from pathlib import Path

import torch

from graft.accept import TopFraction
from graft.core.datatypes import Chunk, TrainingBatch
from graft.dataloaders.training import RoundDataset
from graft.reward import Scores
from graft.rounds import RolloutCache, RoundStore

DRAWS, CHUNK = 100_000, 128


def resident():
    """MB of the process that are not pages of files."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1e3


def made(folder):
    rows = [min(CHUNK, DRAWS - start) for start in range(0, DRAWS, CHUNK)]
    store = RoundStore(folder / "run/rounds/0", {"seed": 0, "round": 0, "steps": 8}, rows, "reward")
    generator = torch.Generator().manual_seed(0)
    for index, count in enumerate(rows):
        final, early, late = (
            {n: torch.randn(count, 8, width, generator=generator) for n, width in (("x", 3), ("h", 10))}
            for _ in range(3)
        )
        store.write_chunk(index, Chunk(final, {0.125: late, 0.25: early}, {"mask": torch.ones(count, 8)}))
        values = torch.rand(count, generator=generator).tolist()
        store.write_scores(index, Scores(values), [f"{index}/{i}" for i in range(count)])
    return store


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        ours = made(Path(name))
        before = resident()
        started = time.perf_counter()
        store = RolloutCache([name])
        opened = time.perf_counter() - started
        assert len(store) == len(ours.rows)
        print(f"open: {opened:.2f} s, {resident() - before:.1f} MB")

        started = time.perf_counter()
        for index in range(len(ours.rows)):
            assert store.find(ours.cache_key(index)) is not None
        scores, keys = ours.scores()
        chosen = TopFraction(0.125, deduplicate=True)(torch.tensor(scores.values), None, keys, torch.Generator())
        print(f"scores, keys and another rule: {time.perf_counter() - started:.2f} s")
        started, before = time.perf_counter(), resident()
        ours.write_subset("accepted.safetensors", chosen.index, [0.25])
        print(f"{len(chosen.index):,} accepted draws gathered: {time.perf_counter() - started:.2f} s")
        started = time.perf_counter()
        chunk = ours.read_subset("accepted.safetensors")
        served = RoundDataset(
            [TrainingBatch(chunk.recorded[0.25], chunk.condition, chosen.weight, 0.25, chunk.state)], 6400, 0
        )
        for start in range(0, 6400, 64):
            served.__getitems__(range(start, start + 64))
        print(f"100 batches of 64: {time.perf_counter() - started:.3f} s; memory of both {resident() - before:.1f} MB")
        print(f"largest resident size: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
