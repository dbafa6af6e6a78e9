"""The accepted law: the rule of the configuration applied to fresh draws of the reference, by plain rejection."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from graft import seeding
from graft.accept.selection import systematic_sample
from graft.distance import internal_diversity
from graft.module import GraftModule
from graft.rollouts import Rollouts
from graft.rounds import RoundSummary
from graft.rounds.gain import means

SEED = 251002692  # of its draws: no run's, unless somebody asks for it
MOST = 2000  # samples whose pairs are looked at
SETTINGS = [  # of the configuration's own rounds, with nothing between draws and rule
    *["--model.level", "0", "--model.objective", "graft.objectives.Shaping"],
    *["--data.source", "reference", "--data.proxy_reward", "null", "--data.max_reward_calls", "null"],
]


@dataclass
class AcceptedDistribution:
    """Samples of the accepted distribution, as often under each condition as the rule accepts there.

    Attributes:
        features: (n, d) of each; None where the domain has none.
        groups: (n,) integer of the condition of each.
        count: n.
        draws: Of the reference, that they were accepted from.
        accepted: Mean reward of the accepted draws of each condition.
        often: Draws of each condition.
        reward: Mean of the draws, each condition with its share of them.
        accepted_reward: Mean of the accepted draws, likewise.
        matched_share: Of the draws, those whose condition has accepted ones; the two means above are over these.
        reward_calls: That it took.
        denoiser_calls: Likewise.
    """

    features: "Tensor | None"
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
        """What ``compare.json`` says of it."""
        names = ("count", "draws", "reward", "accepted_reward", "matched_share", "reward_calls", "denoiser_calls")
        out: dict[str, Any] = {name: getattr(self, name) for name in names} | {"seed": SEED}
        if self.features is not None and self.count > 1:
            groups = self.groups[:MOST]
            values, inverse, number = torch.unique(groups, return_inverse=True, return_counts=True)
            often = torch.tensor([self.often[value] for value in values.tolist()], dtype=torch.float64)
            out["internal_diversity"] = internal_diversity(self.features[:MOST], (often / number)[inverse])
        return out


class _Rounds(LightningDataModule):
    """Does the rounds where Lightning asks for what to predict: by then the strategy is ready, as it is for a round."""

    def __init__(self, data: Rollouts, count: int) -> None:
        super().__init__()
        self.data, self.count = data, count
        self.items: list[Any] = []
        self.groups: list[Tensor] = []  # of the items
        self.accepted: list[tuple[Tensor, Tensor, Tensor]] = []  # reward, condition and weight of what was accepted
        self.drawn: list[tuple[Tensor, Tensor]] = []  # reward and condition of every draw

    def setup(self, stage: str) -> None:
        self.data.require_reward.setup()

    def predict_dataloader(self) -> "list[Any]":
        self.data.trainer = self.trainer
        module, rule = self.data.module, seeding.make_generator(SEED, "rejection")
        for number in range(self.count):
            scored = self.data.accepted_round(number)
            items = module.decode(scored.chunk.state, scored.chunk.condition)
            # a rule that weights its draws stands for rejection in proportion
            kept = systematic_sample(scored.weight / scored.weight.max(), rule).sort().values.tolist()
            self.items += [items[i] for i in kept]
            self.groups.append(scored.groups[kept])
            rewards = scored.rewards if self.data.accept_higher_is_better else -scored.rewards
            self.accepted.append((rewards, scored.groups, scored.weight))
            self.drawn.append(
                (torch.tensor(self.data.round_rewards(number), dtype=torch.float64), self.data.groups(number))
            )
        return []


def sample_accepted(module: GraftModule, data: Rollouts, trainer: Any, folder: Path) -> AcceptedDistribution:
    """The law, from its rounds in ``folder``; those that are not there are done.

    Args:
        module: Of the configuration, with `SETTINGS` and the seed `SEED`.
        data: Likewise.
        trainer: Of as many rounds.
        folder: Of the rounds.
    """
    data.run_dir = folder
    rounds = _Rounds(data, trainer.max_epochs)
    trainer.predict(module, rounds, return_predictions=False)
    accounts = [asdict(RoundSummary.read(data.round_dir(n))[0]) for n in range(trainer.max_epochs)]
    accepted = means(*(torch.cat(each) for each in zip(*rounds.accepted, strict=True)))
    rewards, conditions = (torch.cat(each) for each in zip(*rounds.drawn, strict=True))
    drawn = means(rewards, conditions)
    often = dict(zip(*(each.tolist() for each in torch.unique(conditions, return_counts=True)), strict=True))
    covered = sum(often[value] for value in accepted)
    return AcceptedDistribution(
        features=module.features(rounds.items).double() if module.has_features else None,
        groups=torch.cat(rounds.groups),
        count=len(rounds.items),
        draws=len(rewards),
        accepted=accepted,
        often=often,
        reward=sum(often[value] * drawn[value] for value in accepted) / covered,
        accepted_reward=sum(often[value] * accepted[value] for value in accepted) / covered,
        matched_share=covered / len(rewards),
        reward_calls=sum(each["reward_calls"] for each in accounts),
        denoiser_calls=sum(each["denoiser_calls"] for each in accounts),
    )
