"""The summary of a round, and the CSV table of its accepted draws."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from graft.errors import GraftError
from graft.io.csv_files import csv_text
from graft.io.json_files import read_checked_json, write_checked_json


@dataclass
class RoundSummary:
    """Counts and rewards of a round, as in ``summary.json``; rewards have their own sign."""

    round: int
    source: str
    draws: int
    accepted: int
    acceptance_rate: float
    effective_sample_size: float
    kl_nats: "float | None"
    failed_rewards: int
    duplicates: int
    reward: float
    accepted_reward: float
    matched_share: float
    denoiser_calls: int
    reward_calls: int  # cached values take no call
    failures: dict[str, int]
    not_scored: int = 0  # draws beyond the budget of reward calls
    reused: int = 0  # draws from an earlier run
    invalid_records: int = 0  # records of a scored file
    filtered: dict[str, int] = field(default_factory=dict)  # by filter
    reward_calls_by_term: dict[str, int] = field(default_factory=dict)  # by term of the reward
    constant_conditions: int = 0  # conditions in which the reward does not vary
    conditions: int = 0  # conditions with at least two candidates, as the rule ranks them
    reference_error: "dict[str, float | None] | None" = None  # of the first round, as in `ErrorRatio`

    def metrics(self, filtered: bool) -> dict[str, float]:
        """Return the logged scalars of the round by name, with the filtered draws if ``filtered``."""
        values = {
            "rollout/reward": self.reward,
            "rollout/accepted_reward": self.accepted_reward,
            "rollout/acceptance_rate": self.acceptance_rate,
            "rollout/failed_rewards": float(self.failed_rewards),
            "rollout/duplicates": float(self.duplicates),
        }
        if self.kl_nats is not None:
            values["rollout/kl_nats"] = self.kl_nats
        if filtered:
            values["rollout/refused"] = float(sum(self.filtered.values()))
        return values

    def write(self, folder: Path, index: Tensor, weight: Tensor) -> None:
        """Write ``round.json`` with the positions and weights of the accepted draws.

        The file is written last, because it marks the round as finished.
        """
        write_checked_json(folder / "round.json", {**asdict(self), "index": index.tolist(), "weight": weight.tolist()})

    @classmethod
    def read(cls, folder: Path) -> "tuple[RoundSummary, Tensor, Tensor]":
        """Return (summary, index, weight) of a finished round.

        Raises:
            GraftError: ``round.json`` is missing or damaged.
        """
        path = folder / "round.json"
        remedy = "restore the file, or start a new run with --weights from the last round of this run"
        content = read_checked_json(path, remedy)
        try:
            index = torch.tensor(content.pop("index"), dtype=torch.long)
            weight = torch.tensor(content.pop("weight"), dtype=torch.float64)
            if index.ndim != 1 or index.shape != weight.shape:
                raise ValueError("not a weight for each accepted draw")
            return cls(**content), index, weight
        except (ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
            raise GraftError(f"{path} is damaged ({' '.join(str(error).split())}): {remedy}") from None


def accepted_csv(index: Tensor, weight: Tensor, values: Sequence[float], keys: Sequence[str]) -> str:
    """Return the accepted draws as CSV text: position, key, reward, training weight."""
    rows = [(i, keys[i], values[i], w) for i, w in zip(index.tolist(), weight.tolist(), strict=True)]
    return csv_text(("draw", "key", "reward", "weight"), rows)
