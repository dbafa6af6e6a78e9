"""What a round did: its account, the gain that it counts, and what it accepted and left out as tables."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from graft import files
from graft.errors import GraftError
from graft.spreadsheet import cell


@dataclass
class RoundSummary:
    """What a round did, as it stands in ``summary.json``; rewards in the reward's own unit and direction."""

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
    reward_calls: int  # objects whose value took a call
    failures: dict[str, int]
    not_scored: int = 0  # draws that the reward was not asked for
    reused: int = 0  # draws that an earlier run made
    invalid_records: int = 0  # records of a scored file
    filtered: dict[str, int] = field(default_factory=dict)  # by filter
    reward_calls_by_term: dict[str, int] = field(default_factory=dict)  # of each reward that the reward is made of
    constant_conditions: int = 0  # in which the reward does not vary
    conditions: int = 0  # of at least two candidates, as the rule ranks them

    def write(self, folder: Path, index: Tensor, weight: Tensor) -> None:
        """Keep it beside the chunks, with the accepted draws; last, for a round is finished when this is there."""
        files.write_checked_json(
            folder / "round.json", {**asdict(self), "index": index.tolist(), "weight": weight.tolist()}
        )

    @classmethod
    def read(cls, folder: Path) -> "tuple[RoundSummary, Tensor, Tensor]":
        """(account, index, weight) of a finished round."""
        path = folder / "round.json"
        remedy = "bring it back, or start a new run with the weights of this one's last round as its --weights"
        content = files.read_checked_json(path, remedy)
        try:
            index = torch.tensor(content.pop("index"), dtype=torch.long)
            weight = torch.tensor(content.pop("weight"), dtype=torch.float64)
            if index.ndim != 1 or index.shape != weight.shape:
                raise ValueError("not a weight for each accepted draw")
            return cls(**content), index, weight
        except (ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
            raise GraftError(f"{path} is damaged ({' '.join(str(error).split())}): {remedy}") from None


def condition_matched_mean(rewards: Tensor, groups: Tensor, index: Tensor, weight: Tensor) -> tuple[float, float]:
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


def invalid_records_csv(records: "Sequence[tuple[int | str, str]]") -> str:
    """Records that were left out, by number or name, as CSV."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(("record", "why"))
    rows.writerows([cell(each) for each in record] for record in records)
    return out.getvalue()


def by_reason(records: "Sequence[tuple[int | str, str]]") -> dict[str, int]:
    """How many were left out by reason, the most frequent first; what a reason says behind a colon is the record's."""
    return dict(Counter(why.partition(":")[0] for _, why in records).most_common())


def accepted_csv(index: Tensor, weight: Tensor, values: Sequence[float], keys: Sequence[str]) -> str:
    """The accepted draws as CSV: position in the round, key, reward, weight in training."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(("draw", "key", "reward", "weight"))
    for i, w in zip(index.tolist(), weight.tolist(), strict=True):
        rows.writerow((i, cell(keys[i]), repr(values[i]), repr(w)))
    return out.getvalue()
