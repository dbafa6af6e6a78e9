"""The objects that a configuration of a comparison builds, and the cost of their run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightning.pytorch import Trainer
from lightning.pytorch.loggers.logger import Logger

from graft.module import GraftModule
from graft.rollouts import Rollouts


@dataclass
class Setup:
    """The objects that a configuration builds.

    Attributes:
        module: The model.
        data: The rollouts.
        trainer: The trainer, without loggers: samples for the table are not logged.
        config: The configuration as YAML.
        loggers: The user's loggers, for runs that train.
    """

    module: GraftModule
    data: Rollouts
    trainer: Trainer
    config: str
    loggers: "Sequence[Logger]" = ()


Build = Callable[[list[str]], Setup]
"""Function that builds a `Setup` from flags on top of the user's configuration and flags."""


@dataclass(frozen=True)
class Budget:
    """The cost of a whole training run."""

    reward_calls: int
    denoiser_calls: int
    optimizer_steps: int

    def __str__(self) -> str:
        return (
            f"{self.reward_calls:,} reward calls, {self.denoiser_calls:,} denoiser calls in rollouts and "
            f"{self.optimizer_steps:,} optimizer steps"
        )


def budget(built: Setup) -> Budget:
    """Return the cost of a run of these settings."""
    data, rounds = built.data, built.trainer.max_epochs or 1
    calls = data.rounds.max_scored
    return Budget(
        rounds * calls,
        rounds * data.draws * built.module.policy.denoiser_calls("reference"),
        rounds * data.steps_per_epoch,
    )
