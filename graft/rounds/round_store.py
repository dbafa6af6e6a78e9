"""The folder of a round: chunks of draws, scores, accepted draws. Files are never changed."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft.core.datatypes import Chunk
from graft.core.state import cat, take
from graft.errors import GraftError
from graft.io.atomic import atomic_write
from graft.io.mapped import mapped_writer
from graft.io.tensors import read_metadata, read_tensors, write_tensors
from graft.reward import Scores
from graft.rounds.chunk_files import chunk_from_tensors, chunk_to_tensors, grid_metadata, recorded_levels
from graft.rounds.rollout_cache import RolloutCache
from graft.rounds.score_files import read_scores_file
from graft.rounds.score_store import PROXY, SCORES, STORED, ScoreStore

ACCEPTED = "accepted.safetensors"
ALL = "all.safetensors"  # for objectives that contrast accepted and rejected draws
DRAWN = "chunk"  # prefix of file names


class RoundStore(ScoreStore):
    """The folder of one round.

    Args:
        folder: ``rounds/<n>`` of a run.
        origin: Settings that the draws depend on (seed, weights, steps, …); None to read chunks of any origin.
        chunk_sizes: Number of draws in each chunk.
        reward: Hash of the reward by `graft.io.fingerprint.fingerprint_hash`. Scores of another reward are ignored.
    """

    def __init__(
        self, folder: Path, origin: "dict[str, Any] | None", chunk_sizes: Sequence[int], reward: "str | None" = None
    ) -> None:
        super().__init__(folder, chunk_sizes, reward)
        self._origin = origin

    @classmethod
    def on_disk(cls, folder: Path) -> "RoundStore":
        """Return the store of a round on disk, to read draws of any origin.

        Raises:
            GraftError: The folder holds no draws.
        """
        rows = list[int]()
        while (path := next((p for p in _paths(folder, len(rows)) if p.exists()), None)) is not None:
            origin = read_metadata(path).get("origin")
            if not isinstance(origin, dict) or not isinstance(origin.get("rows"), int):
                raise GraftError(f"{path} does not say what it holds: choose another round")
            rows.append(origin["rows"])
        if not rows:
            raise GraftError(f"{folder} holds no draws: choose another round")
        return cls(folder, None, rows)

    def metadata(self, index: int) -> dict[str, Any]:
        """Return the metadata of the file of a chunk: its origin, recorded levels and checksum."""
        return read_metadata(self._chunk(index))

    def cache_key(self, index: int) -> dict[str, Any]:
        """Return the origin of a chunk; its `fingerprint_hash` is the cache key."""
        return {**(self._origin or {}), "chunk": index, "rows": self.chunk_sizes[index]}

    def _chunk(self, index: int) -> Path:
        stored, drawn = _paths(self.folder, index)
        return stored if stored.exists() else drawn

    def has_chunk(self, index: int) -> bool:
        """Return True if the draws of a chunk are on disk."""
        return self._chunk(index).exists()

    def is_cached(self, index: int) -> bool:
        """Return True if the draws of a chunk come from an earlier run."""
        return self._chunk(index).name.startswith(STORED)

    def write_chunk(self, index: int, chunk: Chunk) -> None:
        """Write the draws of a chunk."""
        origin, levels = self.cache_key(index), list(chunk.recorded)
        grid = grid_metadata(levels, origin.get("steps"))
        write_tensors(self._chunk(index), chunk_to_tensors(chunk, levels, grid), {"origin": origin, **grid})

    def read_chunk(self, index: int) -> Chunk:
        """Return the draws of a chunk.

        Raises:
            GraftError: The file is damaged, or its origin (model, seed, …) is not the origin of this store.
        """
        path, ours = self._chunk(index), self.cache_key(index)
        try:
            tensors, about = read_tensors(path)
        except GraftError as error:
            raise GraftError(f"{error}: remove the file, and the chunk is sampled again") from None
        theirs = about.get("origin")
        if self._origin is not None and theirs != ours:
            differing = [k for k in ours if not isinstance(theirs, dict) or theirs.get(k) != ours[k]]
            raise GraftError(
                f"{path} was drawn with another {' and '.join(differing) or 'origin'}: choose another --run_dir, or "
                "remove the folder"
            )
        return chunk_from_tensors(path, tensors, about, self.chunk_sizes[index])

    def link_cached(self, index: int, store: RolloutCache, levels: Sequence[float]) -> bool:
        """Return True if a chunk is in the cache; link the chunk and its scores into this round.

        Args:
            index: Number of the chunk.
            store: Cache of earlier runs.
            levels: Levels at which the objective needs states.

        Raises:
            GraftError: The chunk lacks the states at one of ``levels``, or the cache holds other distributions only.
        """
        source = store.find(self.cache_key(index))
        if source is None:
            return False
        recorded = recorded_levels(read_metadata(source))
        if missing := [level for level in levels if level not in recorded]:
            raise GraftError(
                f"the draws in data.storage.reuse_runs have no state at level {missing[0]:g}, only at "
                f"{', '.join(f'{level:g}' for level in recorded) or '0'}: choose one of these, or sample again "
                "with data.storage.record_levels"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        own = self.folder / f"{STORED}_{index:05d}"
        for prefix in (SCORES, STORED):  # scores come first: a score file without draws is ignored
            scores = source.with_name(f"{prefix}_{source.stem.partition('_')[2]}.json")
            if scores.exists() and read_scores_file(scores)["reward"] == self.reward:
                _link(scores, own.with_suffix(".json"))
                break
        _link(source, own.with_suffix(".safetensors"))
        return True

    def kept_scores(self) -> tuple[Scores, list[str]]:
        """Return the scores of all chunks and the keys, both empty if samples are missing on disk."""
        kept = all(self.has_chunk(index) and self.has_scores(index) for index in range(len(self.chunk_sizes)))
        return self.scores() if kept else (Scores([]), [])

    def take(self, index: Tensor) -> Chunk:
        """Return the draws at ascending positions (A,), with the states that each of their chunks recorded."""
        starts = torch.tensor([0, *self.chunk_sizes]).cumsum(0)
        parts = list[Chunk]()
        for number in range(len(self.chunk_sizes)):
            inside = index[(index >= starts[number]) & (index < starts[number + 1])] - starts[number]
            if len(inside):
                chunk = self.read_chunk(number)
                recorded = {level: take(state, inside) for level, state in chunk.recorded.items()}
                parts.append(Chunk(take(chunk.state, inside), recorded, take(chunk.condition, inside)))
        levels = [level for level in parts[0].recorded if all(level in part.recorded for part in parts)]
        return Chunk(
            cat([part.state for part in parts]),
            {level: cat([part.recorded[level] for part in parts]) for level in levels},
            cat([part.condition for part in parts]),
        )

    def write_subset(self, name: str, index: Tensor, levels: Sequence[float]) -> None:
        """Copy chosen draws into one file of the round, one chunk at a time.

        Args:
            name: Name of the file.
            index: (A,) ascending positions in the round.
            levels: Levels at which states are copied, in addition to the final states.
        """
        starts = torch.tensor([0, *self.chunk_sizes]).cumsum(0)
        grid = grid_metadata(levels, read_metadata(self._chunk(0))["steps"])
        like: dict[str, Tensor] = {}
        with mapped_writer(self.folder / name, len(index), grid) as mapped:
            for number in range(len(self.chunk_sizes)):
                inside = (index >= starts[number]) & (index < starts[number + 1])
                if not bool(inside.any()):
                    continue
                fields = chunk_to_tensors(self.read_chunk(number), levels, grid)
                like = like or mapped(fields)
                for field, tensor in fields.items():
                    like[field][inside] = tensor[index[inside] - starts[number]]

    def read_subset(self, name: str) -> Chunk:
        """Return the draws that `write_subset` copied. The tensors are memory-mapped."""
        path = self.folder / name
        return chunk_from_tensors(path, *read_tensors(path))


def _paths(folder: Path, index: int) -> tuple[Path, Path]:
    """Return (path of a chunk from an earlier run, path of a chunk of this run)."""
    return folder / f"{STORED}_{index:05d}.safetensors", folder / f"{DRAWN}_{index:05d}.safetensors"


def _link(source: Path, target: Path) -> None:
    """Link a file to a second path, or copy it where the file system has no hard links.

    A link is safe because graft never writes to a finished file.
    """
    with atomic_write(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def prune_round(folder: Path, but: Sequence[str] = ()) -> None:
    """Remove the draws, proxy rewards and weights of a round; scores and summary stay.

    Args:
        folder: Folder of the round.
        but: Names of further files that stay.
    """
    for pattern in ("*.safetensors", f"{PROXY}_*.json"):
        for path in folder.glob(pattern):
            if path.name not in but:
                path.unlink(missing_ok=True)
