"""A file of scored draws of a model: their states, recorded states and conditions as they were sampled, and scores."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft.core.datatypes import Chunk
from graft.errors import GraftError
from graft.io.tensors import read_metadata, read_tensors, write_tensors
from graft.rounds.chunk_files import chunk_from_tensors, chunk_to_tensors, grid_metadata, recorded_levels

SUFFIX = ".safetensors"
SCORE = "score"  # name of the tensor of scores


@dataclass
class ScoredDraws:
    """Scored draws of one round.

    Attributes:
        chunk: The draws, with the states at the levels that the round recorded.
        scores: (n,) float64 finite scores.
        keys: Key of each object; empty keys for a domain without keys.
        label: Name of the scores.
        origin: Settings that the draws depend on, as `graft.rounds.RoundStore` keeps them.
    """

    chunk: Chunk
    scores: Tensor
    keys: list[str]
    label: str
    origin: dict[str, Any]


def write_scored_draws(path: Path, draws: ScoredDraws) -> None:
    """Write scored draws to a safetensors file, atomically."""
    levels = list(draws.chunk.recorded)
    grid = grid_metadata(levels, draws.origin.get("steps"))
    about = {"scores": draws.label, "keys": draws.keys, "origin": draws.origin, **grid}
    write_tensors(path, {**chunk_to_tensors(draws.chunk, levels, grid), SCORE: draws.scores.double()}, about)


def read_header(path: Path) -> tuple[str, dict[str, Any], list[float]]:
    """Return (name of the scores, origin of the draws, recorded levels) of a file of `write_scored_draws`.

    Raises:
        GraftError: The file is missing or of another kind.
    """
    about = read_metadata(path)
    try:
        label, origin, levels = about["scores"], about["origin"], recorded_levels(about)
        if not isinstance(label, str) or not isinstance(origin, dict):
            raise ValueError("no scores")
    except (KeyError, TypeError, ValueError) as error:
        raise GraftError(
            f"{path} holds no scored draws ({error}); `graft rate` writes such files: give another file"
        ) from None
    return label, origin, levels


def read_scored_draws(path: Path) -> ScoredDraws:
    """Return the content of a file of `write_scored_draws`.

    Raises:
        GraftError: The file is missing, damaged or of another kind.
    """
    label, origin, _ = read_header(path)
    tensors, about = read_tensors(path)
    scores = tensors.pop(SCORE, torch.zeros(0))
    chunk, keys = chunk_from_tensors(path, tensors, about, len(scores)), about.get("keys")
    if not isinstance(keys, list) or len(keys) != len(scores) or not all(isinstance(key, str) for key in keys):
        raise GraftError(f"{path} is damaged (not a key for each draw): give another file")
    if scores.ndim != 1 or not all(math.isfinite(value) for value in scores.tolist()):
        raise GraftError(f"{path} is damaged (not a finite score for each draw): give another file")
    return ScoredDraws(chunk, scores.double(), keys, label, origin)
