"""A round of rollouts on disk: chunks of draws, their scores, and what was accepted; written whole, never twice."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft import files
from graft.errors import GraftError
from graft.reward import Scores
from graft.state import Condition, State, cat, flatten, unflatten


@dataclass
class Chunk:
    """Draws of one chunk: final states, the states at the recorded levels (by level), and their condition."""

    state: State
    recorded: dict[float, State]
    condition: Condition


class Round:
    """The folder of one round.

    Args:
        folder: ``rounds/<n>`` of a run.
        origin: What the chunks depend on (seed, weights, steps, …); chunks on disk of another origin are refused.
    """

    def __init__(self, folder: Path, origin: dict[str, Any]) -> None:
        self.folder, self.origin = folder, origin

    def _chunk(self, index: int) -> Path:
        return self.folder / f"chunk_{index:05d}.safetensors"

    def _scores(self, index: int) -> Path:
        return self.folder / f"scores_{index:05d}.json"

    def has_chunk(self, index: int) -> bool:
        """The chunk's draws are on disk."""
        return self._chunk(index).exists()

    def has_scores(self, index: int) -> bool:
        """The chunk's scores are on disk."""
        return self._scores(index).exists()

    def write_chunk(self, index: int, chunk: Chunk) -> None:
        """Keep the draws of a chunk."""
        tensors = flatten(chunk.state, "state") | flatten(chunk.condition, "condition")
        for level, state in chunk.recorded.items():
            tensors |= flatten(state, f"level/{level!r}")
        files.write_tensors(self._chunk(index), tensors, {"origin": self.origin, "levels": list(chunk.recorded)})

    def read_chunk(self, index: int) -> Chunk:
        """The draws of a chunk.

        Raises:
            GraftError: They are damaged, or another model or seed made them.
        """
        path = self._chunk(index)
        tensors, about = files.read_tensors(path)
        theirs = about.get("origin")
        if theirs != self.origin:
            differing = [k for k in self.origin if not isinstance(theirs, dict) or theirs.get(k) != self.origin[k]]
            raise GraftError(
                f"{path} was drawn with another {' and '.join(differing) or 'origin'}: choose another --run_dir, or "
                "remove the folder"
            )
        condition = unflatten(tensors, "condition")
        assert isinstance(condition, dict)
        recorded = {level: unflatten(tensors, f"level/{level!r}") for level in about["levels"]}
        return Chunk(unflatten(tensors, "state"), recorded, condition)

    def write_scores(self, index: int, scores: Scores, keys: list[str]) -> None:
        """Keep the scores of a chunk."""
        values = [None if i in scores.failures else value for i, value in enumerate(scores.values)]
        failures = {str(i): why for i, why in scores.failures.items()}
        files.write_json(self._scores(index), {"values": values, "failures": failures, "keys": keys})

    def drop_scores(self) -> None:
        """Have all chunks scored again."""
        for path in self.folder.glob("scores_*.json"):
            path.unlink(missing_ok=True)

    def read_scores(self, index: int) -> tuple[Scores, list[str]]:
        """The scores of a chunk and the keys of its objects."""
        path = self._scores(index)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            values = [float("nan") if value is None else float(value) for value in content["values"]]
            return Scores(values, {int(i): str(why) for i, why in content["failures"].items()}), content["keys"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise GraftError(f"{path} is damaged ({error}): remove it, and the chunk is scored again") from None

    def read(self, chunks: int) -> tuple[Chunk, Scores, list[str]]:
        """All chunks together."""
        parts = [self.read_chunk(i) for i in range(chunks)]
        scored = [self.read_scores(i) for i in range(chunks)]
        condition = cat([part.condition for part in parts])
        assert isinstance(condition, dict)
        levels = parts[0].recorded
        whole = Chunk(
            cat([part.state for part in parts]),
            {level: cat([part.recorded[level] for part in parts]) for level in levels},
            condition,
        )
        scores = Scores([])
        for part, _ in scored:
            scores.failures |= {len(scores.values) + i: why for i, why in part.failures.items()}
            scores.values += part.values
        return whole, scores, [key for _, keys in scored for key in keys]


@dataclass
class Account:
    """What a round did, as it stands in ``summary.json``; rewards in the reward's own unit and direction."""

    round: int
    source: str
    draws: int
    accepted: int
    acceptance_rate: float
    effective: float
    kl_nats: float
    failed_rewards: int
    duplicates: int
    reward: float
    accepted_reward: float
    matched_share: float
    denoiser_calls: int
    reward_calls: int
    failures: dict[str, int]
    refused: dict[str, int] = field(default_factory=dict)  # by filter

    def write(self, folder: Path, index: Tensor, weight: Tensor) -> None:
        """Keep it beside the chunks, with the accepted draws."""
        files.write_json(folder / "round.json", {**asdict(self), "index": index.tolist(), "weight": weight.tolist()})

    @classmethod
    def read(cls, folder: Path) -> "tuple[Account, Tensor, Tensor]":
        """(account, index, weight) of a finished round."""
        path = folder / "round.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            index, weight = torch.tensor(content.pop("index")), torch.tensor(content.pop("weight"))
            return cls(**content), index, weight
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise GraftError(
                f"{path} is missing or damaged ({error}): the run cannot be told from its rounds"
            ) from None


def matched(rewards: Tensor, groups: Tensor, index: Tensor, weight: Tensor) -> tuple[float, float]:
    """The mean reward of accepted draws with each condition weighted as it was drawn, and the share of draws covered.

    Args:
        rewards: (n,) of all draws, NaN where it failed.
        groups: (n,) condition of each draw.
        index: (A,) the accepted ones.
        weight: (A,) their weights.
    """
    total, covered = 0.0, 0
    for group in torch.unique(groups):
        inside = groups[index] == group
        if not bool(inside.any()):
            continue
        drawn = int((groups == group).sum())
        w = weight[inside]
        total += drawn * float((w * rewards[index[inside]]).sum() / w.sum())
        covered += drawn
    return total / covered, covered / len(groups)
