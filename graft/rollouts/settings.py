"""Settings of a run of rounds, grouped: the reward budget, the evaluation, what is kept, and scored files."""

import math
from dataclasses import dataclass, field
from typing import Any

from graft.core import limits
from graft.errors import GraftError
from graft.evaluation.alarms import Alarms
from graft.reward import Scorer
from graft.sampler import nearest_level

MIN_RETENTION = 0.8
"""Share of the accepted gain that a level must keep, by the lower end of its interval, for ``auto`` to choose it."""
MIN_LEVEL_DRAWS = 128
"""Smallest number of draws; with fewer draws the intervals of the shares are too wide."""
DRAWS_PER_RESAMPLED = 4
"""Number of draws for each re-rolled state."""


@dataclass
class RewardBudget:
    """Which samples the reward scores, and how many rewards may fail.

    Args:
        max_calls: Largest number of reward calls of the whole run, those for validation and the final comparison
            included. The rounds share evenly what is left. If that is less than the samples of a round, a random subset
            is scored, each condition with its share; the others take no part in the round. ``null``: no limit.
        max_failures: Rewards that may fail: below 1 a share of the rewards of a round, from 1 on a number over the
            whole run. Beyond it the run ends. Failed samples are scored again on resume. ``null``: any number, as long
            as one reward of a round does not fail.
        proxy_reward: A cheap reward that decides which samples the reward scores: the best of each condition. The
            others count as rejected.
        proxy_fraction: Share of the samples of each condition that the proxy reward lets pass.
        allow_constant: Train although the reward is the same for all samples of a round or of each condition, so that
            what the rule accepts is arbitrary. Otherwise such a round ends the run: with an error, or, if the reward is
            at least what the round before accepted, with the comparison. It may be changed on resume.
    """

    max_calls: "int | None" = None
    max_failures: "float | None" = 0.9
    proxy_reward: "Scorer | None" = None
    proxy_fraction: float = 0.25
    allow_constant: bool = False

    def check(self) -> None:
        """Raise GraftError if a setting is outside its range."""
        limits.check("data.budget.max_calls", self.max_calls, 1)
        limits.check("data.budget.max_failures", self.max_failures, 0)
        limits.check("data.budget.proxy_fraction", self.proxy_fraction, 0, 1, above=True)

    def calls_per_round(self, draws: int, rounds: int, evaluation_calls: int) -> int:
        """Return the largest number of reward calls in a round, below 1 if the evaluation needs all of them."""
        return draws if self.max_calls is None else min(draws, (self.max_calls - evaluation_calls) // rounds)


@dataclass
class Evaluation:
    """How the tuned model is evaluated during the run and at its end.

    Args:
        validation_draws: Number of samples of the tuned model after each round; 0: none.
        test_draws: Number of samples of the reference and of the tuned model, with the same noise, for the final
            comparison.
        held_out_reward: Another reward, given like ``reward``. Nothing is accepted by it; it is monitored.
        alarms: What is monitored in the validation samples in addition to the reward; ``null``: nothing.
    """

    validation_draws: int = 512
    test_draws: int = 2000
    held_out_reward: "Scorer | None" = None
    alarms: "Alarms | None" = field(default_factory=Alarms)

    def check(self) -> None:
        """Raise GraftError if a setting is outside its range."""
        limits.check("data.evaluation.validation_draws", self.validation_draws, 0)
        limits.check("data.evaluation.test_draws", self.test_draws, 1)

    def reward_calls(self, rounds: int) -> int:
        """Return the number of reward calls of all evaluations of a run."""
        return 2 * self.test_draws + rounds * self.validation_draws


@dataclass
class Storage:
    """What a run keeps of its rounds, and what it takes from earlier runs.

    Args:
        reuse_runs: Folders of earlier runs, or of folders of runs. Their samples are taken instead of sampling where
            the same model would sample them, and their scores where the reward is the same. Another rule, temperature,
            level (of those recorded) or reward starts training at once. Later rounds of ``source: current`` are always
            sampled.
        record_levels: Further levels whose states are kept, for later runs with ``reuse_runs``.
        save_round_weights: Keep the tuned weights of each round in ``rounds/<n>/``.
        keep_last_rounds: Number of newest rounds that keep their samples and weights, so that the disk that a run takes
            does not grow with its rounds. Older rounds keep their scores and the list of accepted samples. ``null``:
            all.
    """

    reuse_runs: "list[str] | None" = None
    record_levels: "list[float] | None" = None
    save_round_weights: bool = True
    keep_last_rounds: "int | None" = 10

    def check(self, replay_rounds: int) -> None:
        """Raise GraftError if a setting is outside its range."""
        for level in self.record_levels or ():
            limits.check("a level of data.storage.record_levels", level, 0, 1)
        if self.keep_last_rounds is not None and self.keep_last_rounds < replay_rounds:
            raise GraftError(
                f"data.storage.keep_last_rounds is {self.keep_last_rounds}, but data.replay_rounds trains on the last "
                f"{replay_rounds} rounds"
            )


@dataclass
class ScoredFile:
    """A file of objects with scores (assay results, ratings) in place of samples.

    Nothing is sampled and nothing is scored: ``draws`` has no effect. A level above 0 is learned from the objects
    noised to it, which is unbiased for stochastic samplers only. There is no KL divergence, because nothing is known of
    the distribution that the objects come from.

    A ``.safetensors`` file of ``graft rate`` holds draws of a run as they were sampled, in every domain. Where that run
    recorded the states at the level, they are learned from, with any sampler.

    Args:
        path: The file, in a format that the domain reads, or a file of ``graft rate``.
        score_column: The column or property that holds the scores; ``rating`` in a file of ``graft rate``.
        higher_is_better: A larger score is better.
        max_invalid_fraction: Largest share of records that cannot be used.
        filters: Value, list of values or range ``{low: 1, high: 5}`` that a column must have, by its name, as
            ``{standard_type: IC50}``. Other records are not used, and are not invalid.
        options: Further settings of the domain's reader, such as ``{smiles_column: Drug, largest_fragment: true}``.
    """

    path: str
    score_column: str
    higher_is_better: bool = True
    max_invalid_fraction: float = 0.5
    filters: "dict[str, Any] | None" = None
    options: "dict[str, Any] | None" = None

    def check(self) -> None:
        """Raise GraftError if a setting is outside its range."""
        limits.check("data.source.max_invalid_fraction", self.max_invalid_fraction, 0, 1)


@dataclass
class LevelSearch:
    """Settings of ``graft levels`` and ``model.level: auto``.

    Both compare levels on draws of the reference.

    Args:
        candidates: Levels in (0, 1), each moved to the nearest step of the sampler; level 0 (GRAFT) is always there.
        draws: Number of draws of the reference. ``null``: as many as take fewer reward calls and denoiser calls than
            one round of ``data.draws``, but at least 128, in whole batches.
        n_bootstrap: Number of bootstrap samples for the 95 % intervals.

    Raises:
        GraftError: A setting is out of range.
    """

    candidates: tuple[float, ...] = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75)
    draws: "int | None" = None
    n_bootstrap: int = 400

    def __post_init__(self) -> None:
        if not self.candidates or not all(0 < level < 1 for level in self.candidates):
            raise GraftError(f"data.level_search.candidates is {list(self.candidates)}; it must be levels in (0, 1)")
        limits.check("data.level_search.draws", self.draws, 2)
        limits.check("data.level_search.n_bootstrap", self.n_bootstrap, 1)

    def candidates_on_grid(self, steps: int) -> tuple[float, ...]:
        """Return the candidates on the grid of a sampler of ``steps`` steps, ascending, each once.

        Raises:
            GraftError: No candidate is between 0 and 1 on the grid.
        """
        levels = sorted({nearest_level(level, steps) for level in self.candidates} - {0.0, 1.0})
        if not levels:
            raise GraftError(
                f"data.level_search.candidates has no level between 0 and 1 on a sampler of {steps} steps. Raise "
                "model.steps."
            )
        return tuple(levels)

    def num_draws(self, a_round: int, batch: int, levels: int) -> int:
        """Return the number of draws of the analysis.

        A draw is scored, its prediction at each level is scored, and every fourth draw is re-rolled from each level.

        Args:
            a_round: Number of draws of a round.
            batch: Number of draws in a batch.
            levels: Number of candidate levels.
        """
        if self.draws is not None:
            return self.draws
        affordable = a_round / (1 + levels + levels / DRAWS_PER_RESAMPLED)
        return min(a_round, max(math.ceil(MIN_LEVEL_DRAWS / batch), math.floor(affordable / batch)) * batch)
