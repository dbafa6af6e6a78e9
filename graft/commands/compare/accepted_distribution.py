"""The accepted distribution: the acceptance rule applied to fresh draws of the reference, by plain rejection."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft.accept.selection import systematic_sample
from graft.core import seeding
from graft.core.distributed import run_within
from graft.domain.distance import internal_diversity
from graft.module import GraftModule
from graft.reward import oriented
from graft.rollouts import Rollouts
from graft.rounds import RoundSummary
from graft.rounds.gain import means
from graft.rounds.scoring import store_groups

SEED = 251002692
"""Seed of the draws; a comparison refuses it as the seed of a run."""
MOST = 2000
"""Largest number of samples that the internal diversity is computed from."""
SETTINGS = [  # the configuration's own rounds, but with no proxy reward and no budget between draws and rule
    *["--model.level", "0", "--model.objective", "graft.objectives.Shaping"],
    *["--data.source", "reference", "--data.budget.proxy_reward", "null", "--data.budget.max_calls", "null"],
]


@dataclass
class AcceptedDistribution:
    """Samples of the accepted distribution.

    Each condition comes as often as the rule accepts draws of it.

    Attributes:
        features: (n, d) features of the samples; None if the domain has no features.
        drawn: (m, d) features of draws of the reference, accepted or not; None if the domain has no features.
        drawn_groups: (m,) integer of the condition of each of these draws.
        groups: (n,) integer of the condition of each sample.
        count: n, the number of samples.
        draws: Number of draws of the reference that the samples were accepted from.
        accepted: Mean reward of the accepted draws by condition.
        often: Number of draws by condition.
        reward: Mean reward of the draws, each condition with its share of the draws.
        accepted_reward: Mean reward of the accepted draws, each condition with its share of the draws.
        matched_share: Share of the draws with accepted draws of their condition; the two means above are over these.
        reward_calls: Number of reward calls.
        denoiser_calls: Number of denoiser calls.
    """

    features: "Tensor | None"
    drawn: "Tensor | None"
    drawn_groups: Tensor
    groups: Tensor
    count: int
    draws: int
    accepted: dict[int, float]
    often: dict[int, int]
    reward: float
    accepted_reward: float
    matched_share: float
    reward_calls: int
    denoiser_calls: int

    def about(self) -> dict[str, Any]:
        """Return the entry of ``compare.json``."""
        names = ("count", "draws", "reward", "accepted_reward", "matched_share", "reward_calls", "denoiser_calls")
        out: dict[str, Any] = {name: getattr(self, name) for name in names} | {"seed": SEED}
        if self.features is not None and self.count > 1:
            groups = self.groups[:MOST]
            values, inverse, number = torch.unique(groups, return_inverse=True, return_counts=True)
            often = torch.tensor([self.often[value] for value in values.tolist()], dtype=torch.float64)
            out["internal_diversity"] = internal_diversity(self.features[:MOST], (often / number)[inverse])
        if self.drawn is not None:
            out["drift_draws"] = len(self.drawn)
        return out


def sample_accepted(module: GraftModule, data: Rollouts, trainer: Any, folder: Path) -> AcceptedDistribution:
    """Return samples of the accepted distribution; missing rounds are run.

    Args:
        module: The configuration's model, with `SETTINGS` and the seed `SEED`.
        data: The configuration's rollouts, with `SETTINGS` and the seed `SEED`.
        trainer: Trainer; its ``max_epochs`` is the number of rounds.
        folder: Folder of the rounds.
    """
    data.run_dir = folder
    items, parts = run_within(trainer, module, lambda: _run_rounds(data, trainer))
    features, feature_groups = None, torch.zeros(0, dtype=torch.long)
    if module.supports("features"):
        features, feature_groups = _drawn(data, trainer.max_epochs)
    summaries = [RoundSummary.read(data.rounds.round_dir(n))[0] for n in range(trainer.max_epochs)]
    groups, *weighted, rewards, conditions = (torch.cat(each) for each in zip(*parts, strict=True))
    accepted, drawn = means(*weighted), means(rewards, conditions)
    often = dict(zip(*(each.tolist() for each in torch.unique(conditions, return_counts=True)), strict=True))
    covered = sum(often[value] for value in accepted)
    return AcceptedDistribution(
        features=module.features(items).double() if module.supports("features") else None,
        drawn=features,
        drawn_groups=feature_groups,
        groups=groups,
        count=len(items),
        draws=len(rewards),
        accepted=accepted,
        often=often,
        reward=sum(often[value] * drawn[value] for value in accepted) / covered,
        accepted_reward=sum(often[value] * accepted[value] for value in accepted) / covered,
        matched_share=covered / len(rewards),
        reward_calls=sum(each.reward_calls for each in summaries),
        denoiser_calls=sum(each.denoiser_calls for each in summaries),
    )


def _run_rounds(data: Rollouts, trainer: Any) -> tuple[list[Any], list[tuple[Tensor, ...]]]:
    """Run the missing rounds; return the accepted objects and, for each round, tensors of its draws.

    The tensors are: condition of each accepted object; reward, condition and weight of each accepted draw; reward and
    condition of each draw.
    """
    data.trainer = trainer
    data.rounds.require_reward.setup()
    module, rule = data.module, seeding.make_generator(SEED, "rejection")
    items, parts = list[Any](), list[tuple[Tensor, ...]]()
    for number in range(trainer.max_epochs):
        scored = data.runner().accepted_round(number)
        accepted = module.decode(scored.chunk.state, scored.chunk.condition)
        # weights of a rule have the distribution of rejection with a probability in proportion to them
        kept = systematic_sample(scored.weight / scored.weight.max(), rule).sort().values.tolist()
        items += [accepted[i] for i in kept]
        signed = oriented(scored.rewards, data.rounds.accept_higher_is_better)
        store = data.rounds.store(number)
        rewards = torch.tensor(store.scores()[0].values, dtype=torch.float64)
        parts.append((scored.groups[kept], signed, scored.groups, scored.weight, rewards, store_groups(module, store)))
    return items, parts


def _drawn(data: Rollouts, rounds: int) -> tuple[Tensor, Tensor]:
    """Return (features, conditions) of the first draws of all rounds, about twice `MOST` or all."""
    module = data.module
    features, groups = list[Tensor](), list[Tensor]()
    for store in map(data.rounds.store, range(rounds)):
        for index in range(len(store.chunk_sizes)):
            if sum(len(each) for each in features) >= 2 * MOST:
                break
            chunk = store.read_chunk(index)
            features.append(module.features(module.decode(chunk.state, chunk.condition)).double())
            groups.append(module.group(chunk.condition).cpu())
    return torch.cat(features), torch.cat(groups)
