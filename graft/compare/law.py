"""The accepted law: the rule of the configuration applied to fresh draws of the reference, by plain rejection."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from graft import seeding
from graft.accept.selection import systematic
from graft.distance import internal_diversity
from graft.module import GraftModule
from graft.rollouts import Rollouts
from graft.rounds import Account

SEED = 251002692  # of its draws: no run's, unless somebody asks for it
MOST = 2000  # samples whose pairs are looked at
SETTINGS = [  # of the configuration's own rounds, with nothing between draws and rule
    *["--model.level", "0", "--model.objective", "graft.objectives.Shaping"],
    *["--data.source", "reference", "--data.screen", "null", "--data.reward_budget", "null"],
]


@dataclass
class Law:
    """Samples of the accepted law.

    Attributes:
        features: (n, d) of each; None where the domain has none.
        count: n.
        draws: Of the reference, that they were accepted from.
        reward: Mean of these.
        accepted_reward: Mean of the samples, with each condition weighted as it was drawn.
        reward_calls: That it took.
        denoiser_calls: Likewise.
    """

    features: "Tensor | None"
    count: int
    draws: int
    reward: float
    accepted_reward: float
    reward_calls: int
    denoiser_calls: int

    def about(self) -> dict[str, Any]:
        """All but the features."""
        out = {name: value for name, value in vars(self).items() if name != "features"} | {"seed": SEED}
        if self.features is not None and self.count > 1:
            out["internal_diversity"] = internal_diversity(self.features[:MOST])
        return out


class _Rounds(LightningDataModule):
    """Does the rounds where Lightning asks for what to predict: by then the strategy is ready, as it is for a round."""

    def __init__(self, data: Rollouts, count: int) -> None:
        super().__init__()
        self.data, self.count = data, count
        self.items: list[Any] = []

    def setup(self, stage: str) -> None:
        self.data.scorer.open()

    def predict_dataloader(self) -> "list[Any]":
        self.data.trainer = self.trainer
        module, rule = self.data.module, seeding.generator(SEED, "rejection")
        for number in range(self.count):
            scored = self.data.accepted(number)
            items = module.decode(scored.chunk.state, scored.chunk.condition)
            # a rule that weights its draws stands for rejection in proportion
            kept = systematic(scored.weight / scored.weight.max(), rule).sort().values.tolist()
            self.items += [items[i] for i in kept]
        return []


def draw(module: GraftModule, data: Rollouts, trainer: Any, folder: Path) -> Law:
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
    accounts = [asdict(Account.read(data.folder(n))[0]) for n in range(trainer.max_epochs)]
    return Law(
        features=module.features(rounds.items).double() if module.featured else None,
        count=len(rounds.items),
        draws=sum(each["draws"] for each in accounts),
        reward=_mean([each["reward"] for each in accounts]),
        accepted_reward=_mean([each["accepted_reward"] for each in accounts]),
        reward_calls=sum(each["reward_calls"] for each in accounts),
        denoiser_calls=sum(each["denoiser_calls"] for each in accounts),
    )


def _mean(values: list[float]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).mean())
