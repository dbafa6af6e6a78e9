"""Best of N: the baseline that trains nothing and pays in sampling."""

import math
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from typing_extensions import override

from graft.core import limits
from graft.core.datatypes import SampleRequest, Weights
from graft.core.distributed import rank_zero_print
from graft.core.state import take
from graft.dataloaders.sampling import SampleRequests, sample_objects
from graft.evaluation.samples import Samples
from graft.module import GraftModule
from graft.reward import Scorer, bind, oriented, score_objects
from graft.reward import scorer as reward_of
from graft.rollouts import feasible
from graft.rounds.variation import variation


class RepeatedRequests(SampleRequests):
    """Requests in which every condition comes ``each`` times in a row."""

    def __init__(self, *args: Any, each: int) -> None:
        super().__init__(*args)
        self.each = each

    @override
    def __getitem__(self, index: int) -> SampleRequest:
        request = super().__getitem__(index)
        rows = torch.arange(len(next(iter(request.condition.values())))).repeat_interleave(self.each)
        return SampleRequest(take(request.condition, rows), request.seed_key, request.weights)


def best_of_n(
    module: GraftModule,
    trainer: Trainer,
    reward: "Scorer",
    count: int,
    candidates: int,
    purpose: str = "sample",
    weights: Weights = "tuned",
    chunk: "int | None" = None,
) -> Samples:
    """Return ``count`` objects, each the best of ``candidates`` of one condition.

    Let F be the distribution function of the reward at r(x) under a condition. For rewards without ties, the best of N
    has the density p(x) N F^(N − 1), and its KL divergence from p is log N − (N − 1)/N nats. Each object costs N reward
    calls (fewer if values are cached) and N times the denoiser calls. The reward of an object is NaN if the reward
    failed for all its candidates.

    Args:
        module: The model.
        trainer: Lightning's trainer.
        reward: Reward that ranks the candidates; it is torn down at the end.
        count: Number of objects.
        candidates: N, the number of candidates for each object.
        purpose: Name that seeds conditions and noise.
        weights: Weights that sample.
        chunk: Approximate number of candidates in a batch; None for `GraftModule.default_batch_size`.

    Raises:
        GraftError: ``candidates`` is below 1, or the samples would take years or more memory than there is.
    """
    limits.check("the number of candidates", candidates, 1)
    feasible.check_sampling(module, module.policy, "each the best of several", count * candidates)
    requests = RepeatedRequests(
        module, count, max(1, (chunk or module.default_batch_size) // candidates), (purpose,), weights, each=candidates
    )
    reward = reward_of(reward, "the reward of best_of")
    bind(reward, module)
    best = Samples([])
    groups: list[Tensor] = []  # oriented rewards of the candidates for each object
    reward.setup()
    try:
        for items, calls in sample_objects(module, trainer, requests):
            best.denoiser_calls += calls
            scores = score_objects(reward, items)
            best.reward_calls += scores.reward_calls
            values = scores.values
            for first in range(0, len(items), candidates):
                signed = [oriented(value, reward.higher_is_better) for value in values[first : first + candidates]]
                place = max(range(candidates), key=[-math.inf if math.isnan(s) else s for s in signed].__getitem__)
                groups.append(torch.tensor([value for value in signed if not math.isnan(value)], dtype=torch.float64))
                best.items.append(items[first + place])
                best.rewards.append(values[first + place])
                best.failures += math.isnan(values[first + place])
    finally:
        reward.teardown()
    places = torch.split(torch.arange(sum(map(len, groups))), [len(group) for group in groups])
    if candidates > 1 and groups and not variation(torch.cat(groups), places).selectable:
        rank_zero_print(
            f"the reward {reward.name} is the same for all candidates of each object: the objects that are kept are "
            "arbitrary"
        )
    return best
