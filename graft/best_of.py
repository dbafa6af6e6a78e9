"""Best of N: the control that trains nothing and pays at inference."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from graft import feasible
from graft.batches import SampleRequest, Weights
from graft.batches.sampling import SampleRequests, sample_objects
from graft.distributed import rank_zero_print
from graft.errors import GraftError
from graft.module import GraftModule
from graft.reward import Scorer, ask
from graft.reward import scorer as reward_of
from graft.rounds.variation import variation
from graft.state import take


@dataclass
class BestOfNResult:
    """What `best_of_n` gives: objects, their rewards (NaN where all candidates failed), and what they cost."""

    items: list[Any]
    rewards: list[float]
    reward_calls: int
    denoiser_calls: int


class RepeatedRequests(SampleRequests):
    """Requests in which every condition comes ``each`` times in a row."""

    def __init__(self, *args: Any, each: int) -> None:
        super().__init__(*args)
        self.each = each

    def __getitem__(self, index: int) -> SampleRequest:
        draws = super().__getitem__(index)
        rows = torch.arange(len(next(iter(draws.condition.values())))).repeat_interleave(self.each)
        condition = take(draws.condition, rows)
        assert isinstance(condition, dict)
        return SampleRequest(condition, draws.seed_key, draws.weights)


def best_of_n(
    module: GraftModule,
    trainer: Trainer,
    reward: "Scorer",
    count: int,
    candidates: int,
    purpose: str = "sample",
    weights: Weights = "tuned",
    chunk: "int | None" = None,
) -> BestOfNResult:
    """Draw ``candidates`` objects under each of ``count`` conditions and keep the best one of each.

    With F the CDF of the reward at r(x) under a condition, what is kept has the law p(x) N F^(N − 1) of its density, of
    KL divergence log N − (N − 1)/N nats from p, for rewards without ties. It costs N reward calls (fewer where
    values are remembered) and N times the denoiser calls for each object, every time.

    Args:
        module: The model.
        trainer: Lightning's.
        reward: What is best; closed at the end.
        count: Objects that are kept.
        candidates: N.
        purpose: Seeds conditions and noise.
        weights: Whose draws.
        chunk: Candidates in a batch, about; `GraftModule.default_batch_size` if not given.
    """
    if candidates < 1:
        raise GraftError(f"the best of {candidates} was asked for, but it takes at least 1 candidate")
    feasible.check_sampling(module, "each the best of several", count * candidates)
    requests = RepeatedRequests(
        module, count, max(1, (chunk or module.default_batch_size) // candidates), (purpose,), weights, each=candidates
    )
    reward = reward_of(reward, "the reward of best_of")
    best = BestOfNResult([], [], 0, 0)
    groups: list[Tensor] = []  # of the rewards of the candidates for each object
    reward.setup()
    try:
        for items, calls in sample_objects(module, trainer, requests):
            best.denoiser_calls += calls
            scores = ask(reward, items)
            best.reward_calls += scores.asked
            values = scores.values
            for first in range(0, len(items), candidates):
                signed = [value if reward.higher_is_better else -value for value in values[first : first + candidates]]
                place = max(range(candidates), key=[-math.inf if math.isnan(s) else s for s in signed].__getitem__)
                groups.append(torch.tensor([value for value in signed if not math.isnan(value)], dtype=torch.float64))
                best.items.append(items[first + place])
                best.rewards.append(values[first + place])
    finally:
        reward.teardown()
    places = torch.split(torch.arange(sum(map(len, groups))), [len(group) for group in groups])
    if candidates > 1 and groups and not variation(torch.cat(groups), places).selectable:
        rank_zero_print(
            f"the reward {reward.name} does not tell candidates for an object apart: those that are kept are arbitrary"
        )
    return best
