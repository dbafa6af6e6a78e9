"""RoundSettings: the settings of sampling, scoring and acceptance in all rounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.accept import AcceptanceRule
from graft.errors import GraftError
from graft.filters import Filter
from graft.io.fingerprint import fingerprint, fingerprint_hash
from graft.objectives import RoundSpec
from graft.reward import Reward
from graft.rounds.rollout_cache import RolloutCache
from graft.rounds.round_store import RoundStore
from graft.rounds.sources import Source


@dataclass(frozen=True)
class RoundSettings:
    """The settings of all rounds of a run.

    Attributes:
        run_dir: Folder of the run; rounds are in ``rounds/<n>`` below it.
        source: Source of the samples.
        accept: The acceptance rule.
        filters: Filters that are applied before the rule.
        draws: Number of samples in a round.
        batch_size: Number of samples in a chunk.
        samples_per_prefix: Number of neighbouring samples that share their first steps.
        replay_rounds: Number of rounds that are trained on together.
        seed: Seed of the acceptance.
        reward: The reward; None for a scored file without one.
        reward_fingerprint: Fingerprint of the reward at the start of the run.
        reward_calls: Largest number of reward calls in a round.
        proxy_reward: A cheap reward that decides which samples the reward scores.
        proxy_fraction: Share of the samples that pass the proxy reward.
        max_failures: Limit of failed rewards, as in `graft.rounds.scoring.FailureBudget`.
        allow_constant_reward: True to continue if the reward does not vary.
        record_levels: Further levels at which states are recorded.
        cache: Rollout cache of earlier runs.
        keep_last_rounds: Number of newest rounds that keep their samples; None keeps all.
    """

    run_dir: "Path | None"
    source: Source
    accept: AcceptanceRule
    filters: Sequence[Filter]
    draws: int
    batch_size: int
    samples_per_prefix: int
    replay_rounds: int
    seed: int
    reward: "Reward | None"
    reward_fingerprint: Any
    reward_calls: int
    proxy_reward: "Reward | None"
    proxy_fraction: float
    max_failures: "float | None"
    allow_constant_reward: bool
    record_levels: Sequence[float]
    cache: "RolloutCache | None"
    keep_last_rounds: "int | None"

    # The reward

    @property
    def require_reward(self) -> Reward:
        """Return the reward.

        Raises:
            GraftError: The run has the scores of a file and no reward.
        """
        if self.reward is None:
            raise GraftError(
                "data.reward is not set, and this needs a reward in addition to the scores of a file: set data.reward"
            )
        return self.reward

    @property
    def reward_label(self) -> tuple[str, str]:
        """Return (name, unit) of the reward, or of the scores of a file if there is no reward."""
        return (self.reward.name, self.reward.unit) if self.reward is not None else (self.source.label, "")

    @property
    def higher_is_better(self) -> bool:
        """Return True if a larger value is better in the evaluation of samples."""
        return self.reward.higher_is_better if self.reward is not None else self.source.higher_is_better

    @property
    def same_scale(self) -> bool:
        """Return True if samples are accepted and evaluated by one quantity.

        It is False for a scored file with another reward.
        """
        return self.source.is_model or self.reward is None

    @property
    def accept_name(self) -> str:
        """Return the name of the quantity that the rule ranks by."""
        return self.require_reward.name if self.source.is_model else self.source.label

    @property
    def accept_higher_is_better(self) -> bool:
        """Return True if the rule prefers larger scores."""
        return self.require_reward.higher_is_better if self.source.is_model else self.source.higher_is_better

    @property
    def max_scored(self) -> int:
        """Return the largest number of samples that the reward scores in a round."""
        share = 1.0 if self.proxy_reward is None else self.proxy_fraction
        return min(self.reward_calls, int(share * self.draws + 1e-9))

    @property
    def reward_key(self) -> "str | None":
        """Return the cache key of scores, from the reward and the choice of scored samples."""
        if not self.source.is_model:
            return None
        key: dict[str, Any] = {"reward": self.reward_fingerprint}
        if self.proxy_reward is not None or self.reward_calls < self.draws:
            by, most = fingerprint(self.proxy_reward), self.reward_calls
            key["chosen"] = {"by": by, "share": self.proxy_fraction, "most": most, "seed": self.seed}
        return fingerprint_hash(key)

    # Chunks and folders

    @property
    def chunk_sizes(self) -> list[int]:
        """Return the number of samples in each chunk of a round."""
        count = self.source.count(self.draws)
        return [min(self.batch_size, count - start) for start in range(0, count, self.batch_size)]

    def chunk_slice(self, index: int) -> slice:
        """Return the positions of the samples of a chunk in the round."""
        return slice(index * self.batch_size, index * self.batch_size + self.chunk_sizes[index])

    def round_dir(self, number: int) -> Path:
        """Return the folder of a round, counted from 0.

        Raises:
            GraftError: ``run_dir`` is None.
        """
        if self.run_dir is None:
            raise GraftError("run_dir is not set; Rollouts keeps its rounds there: set run_dir")
        return self.run_dir / "rounds" / str(number)

    def store(self, number: int, origin: "dict[str, Any] | None" = None) -> RoundStore:
        """Return the store of a round. Without an origin, the store reads chunks of any origin."""
        return RoundStore(self.round_dir(number), origin, self.chunk_sizes, self.reward_key)

    # For objectives and reports

    @property
    def spec(self) -> RoundSpec:
        """Return the settings that an objective checks."""
        source = self.source
        return RoundSpec(
            source.name, source.behaviour, source.is_model, self.accept, self.replay_rounds, source.recorded
        )

    def describe(self) -> str:
        """Return the filters and the rule as a phrase for messages."""
        return "".join(f"{each}, then " for each in self.filters) + self.accept.describe()
