"""Rollouts: the data module of fine-tuning. An epoch is a round: sample, score, accept, train."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader
from typing_extensions import override

from graft.accept import AcceptanceRule, TopFraction
from graft.core import distributed, limits
from graft.core.datatypes import Weights
from graft.core.recorded_arguments import Described
from graft.dataloaders.sampling import SampleRequests
from graft.dataloaders.training import training_dataloader
from graft.errors import GraftError
from graft.filters import Filter
from graft.io.fingerprint import fingerprint
from graft.module import GraftModule
from graft.reward import Reward, RewardAttribute, Scorer, bind
from graft.rollouts import checks
from graft.rollouts.settings import Evaluation, LevelSearch, RewardBudget, ScoredFile, Storage
from graft.rounds import RolloutCache, RoundSummary
from graft.rounds.filtering import check_requirements
from graft.rounds.runner import RoundRunner
from graft.rounds.settings import RoundSettings
from graft.rounds.source_setting import make_source
from graft.runs import interruption, loggers

BUDGET, EVALUATION, STORAGE = RewardBudget(), Evaluation(), Storage()


class Rollouts(Described, LightningDataModule):
    """Samples from the model, scores the samples, accepts some of them and serves those for training.

    Each round is an epoch. It needs ``Trainer(reload_dataloaders_every_n_epochs=1)``.

    Args:
        reward: A `graft.reward.Reward`, a Python callable that takes one object, or its dotted path. With a scored file
            as source it may be left out; the comparison then has no rewards.
        accept: The acceptance rule.
        filters: Filters that are applied before the rule, one after the other; see `graft.filters`.
        draws: Number of samples in a round.
        batch_size: Number of samples in a chunk: the batch of the sampler and the unit of randomness.
        source: The network that samples: ``reference`` in every round, or ``current``, the tuned network as it is now.
            Or a `graft.rollouts.ScoredFile`.
        samples_per_prefix: Number of samples that share a condition and the reference's steps above
            ``model.upper_level``. `graft.objectives.PolicyGradient` and `graft.objectives.DiffusionNFT` compare them
            with each other only. It divides ``draws`` and ``batch_size``. 1: nothing is shared.
        steps_per_round: Number of optimizer steps in a round.
        train_batch_size: Number of samples in an optimizer step; ``trainer.accumulate_grad_batches`` splits it.
        replay_rounds: Number of rounds whose accepted samples are trained on together. More than one suits source
            ``reference``, whose rounds have the same distribution.
        budget: Which samples the reward scores, and how many rewards may fail.
        evaluation: How the tuned model is evaluated.
        storage: What the run keeps, and what it takes from earlier runs.
        level_search: How ``graft levels`` and ``model.level: auto`` compare levels.
        run_dir: Folder of the run, in which ``rounds/`` is kept.
        seed: Seed of the acceptance and of the training order; the command line links it to ``--seed_everything``.

    Attributes:
        summaries: Summaries of the rounds so far.
        saturated: The last round left nothing to select, and was not trained on.
    """

    reward = RewardAttribute("data.reward")
    proxy_reward = RewardAttribute("data.budget.proxy_reward")
    held_out_reward = RewardAttribute("data.evaluation.held_out_reward")

    def __init__(
        self,
        reward: "Scorer | None" = None,
        accept: "AcceptanceRule | None" = None,
        filters: "list[Filter] | None" = None,
        draws: int = 2048,
        batch_size: int = 128,
        source: "ScoredFile | str" = "reference",
        samples_per_prefix: int = 1,
        steps_per_round: int = 600,
        train_batch_size: int = 64,
        replay_rounds: int = 1,
        budget: RewardBudget = BUDGET,
        evaluation: Evaluation = EVALUATION,
        storage: Storage = STORAGE,
        level_search: "LevelSearch | None" = None,
        run_dir: "str | None" = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"draws": draws, "batch_size": batch_size, "train_batch_size": train_batch_size}
        for name, value in (sizes | {"steps_per_round": steps_per_round, "replay_rounds": replay_rounds}).items():
            limits.check(f"data.{name}", value, 1)
        self.reward, self.accept, self.filters = reward, accept if accept is not None else TopFraction(), filters or []
        if reward is None and source in ("reference", "current"):
            raise GraftError("data.reward is missing: draws have to be scored")
        if self.accept.min_draws > draws:
            raise GraftError(f"the rule '{self.accept}' needs {self.accept.min_draws} draws, data.draws is {draws}")
        self.draws, self.batch_size, self.train_batch_size = draws, batch_size, train_batch_size
        self.steps_per_epoch, self.replay_rounds = steps_per_round, replay_rounds
        limits.check("data.samples_per_prefix", samples_per_prefix, 1)
        for name in ("draws", "batch_size"):
            if sizes[name] % samples_per_prefix:
                found = f"data.samples_per_prefix is {samples_per_prefix}"
                raise GraftError(f"{found}; it must divide data.{name}, which is {sizes[name]}")
        self.samples_per_prefix = samples_per_prefix
        self.source = make_source(source)
        # copies, because the defaults are shared
        self.budget, self.evaluation, self.storage = replace(budget), replace(evaluation), replace(storage)
        self.budget.check()
        self.evaluation.check()
        self.storage.check(replay_rounds)
        self.proxy_reward, self.held_out_reward = self.budget.proxy_reward, self.evaluation.held_out_reward
        self.level_search = level_search if level_search is not None else LevelSearch()
        self.run_dir = Path(run_dir) if run_dir is not None else None
        self.seed = seed
        self.summaries: list[RoundSummary] = []
        self.saturated = False
        self.seconds_per_draw = 0.0  # seconds that a sample and its score took in the last round
        self._served = False  # in this call of the trainer's fit
        self._cache: RolloutCache | None = None
        self.hooks_checked: Any = None  # the trainer for which the hooks were called once
        self._identified: tuple[Reward | None, Any] | None = None

    @property
    def module(self) -> GraftModule:
        """The model that is tuned."""
        assert self.trainer is not None
        module = self.trainer.lightning_module
        if not isinstance(module, GraftModule):
            raise GraftError(f"Rollouts draws from a GraftModule, not from {type(module).__name__}")
        return module

    @property
    def num_rounds(self) -> int:
        """Number of rounds of the run."""
        assert self.trainer is not None
        return max(1, self.trainer.max_epochs or 1)

    @property
    def rounds(self) -> RoundSettings:
        """The settings of rounds as they are now."""
        rounds = 1 if self.trainer is None else self.num_rounds
        return RoundSettings(
            run_dir=self.run_dir,
            source=self.source,
            accept=self.accept,
            filters=self.filters,
            draws=self.draws,
            batch_size=self.batch_size,
            samples_per_prefix=self.samples_per_prefix,
            replay_rounds=self.replay_rounds,
            seed=self.seed,
            reward=self.reward,
            reward_fingerprint=self.reward_fingerprint,
            reward_calls=self.budget.calls_per_round(self.draws, rounds, self.evaluation.reward_calls(rounds)),
            proxy_reward=self.proxy_reward,
            proxy_fraction=self.budget.proxy_fraction,
            max_failures=self.budget.max_failures,
            allow_constant_reward=self.budget.allow_constant,
            record_levels=self.storage.record_levels or (),
            cache=self._cache,
            keep_last_rounds=self.storage.keep_last_rounds,
        )

    @property
    def reward_fingerprint(self) -> Any:
        """The fingerprint of the reward when the fit began. The reward may change while it scores."""
        if self._identified is None or self._identified[0] is not self.reward:
            self._identified = self.reward, fingerprint(self.reward)
        return self._identified[1]

    def runner(self) -> RoundRunner:
        """Return the runner of rounds. It needs a trainer whose strategy is set up."""
        assert self.trainer is not None
        return RoundRunner(self.module, self.module.policy, self.module.objective, self.rounds, self.trainer)

    # Lightning's hooks

    @override
    def setup(self, stage: str) -> None:
        if stage == "fit":
            assert self.trainer is not None
            self.summaries, self.saturated, self._served = [], False, False
            checks.check_run(self, self.module, self.trainer)
            if self.storage.reuse_runs and self._cache is None:
                self._cache = RolloutCache(self.storage.reuse_runs)
            self._identified = None  # if a reward cannot be identified, all ranks take the token of rank 0
            self._identified = self.reward, distributed.on_rank_zero(self.trainer, lambda: self.reward_fingerprint)
            check_requirements(self.filters, self.module)
        for reward in (self.reward, self.proxy_reward, self.held_out_reward):
            bind(reward, self.module, self.run_dir)
        if stage != "predict" and self.reward is not None:
            self.reward.setup()

    @override
    def train_dataloader(self) -> "DataLoader[Any] | list[Any]":
        assert self.trainer is not None
        if getattr(self.trainer, "reload_dataloaders_every_n_epochs", 1) != 1:
            raise GraftError("a round is an epoch: use Trainer(reload_dataloaders_every_n_epochs=1)")
        done = interruption.completed_batches(self.trainer)
        checks.check_hooks(self)
        policy, objective, runner = self.module.policy, self.module.objective, self.runner()
        objective.check(policy, self.rounds.spec)
        number = self.trainer.current_epoch
        self.summaries = self.summaries[:number]
        self.summaries += [RoundSummary.read(self.rounds.round_dir(n))[0] for n in range(len(self.summaries), number)]
        if number == self.trainer.max_epochs or self.trainer.should_stop:  # resumed after the last round
            return []
        runner.prune(number)
        former = [runner.scored_round(n) for n in range(max(0, number - self.replay_rounds + 1), number)]
        if done:
            objective.on_round_resume(policy)
            summary, *_ = RoundSummary.read(self.rounds.round_dir(number))
        else:
            runner.ranks.wait()
            objective.on_round_start(policy, number)
            summary = runner.run(number, self.summaries)
            self.saturated, self.seconds_per_draw = runner.saturated, runner.seconds_per_draw
        self._log(summary, to_loggers=not done)
        self.summaries.append(summary)
        if self.saturated:
            if self._served:
                raise StopIteration  # which ends Lightning's loop over epochs
            return []
        self._served = True
        parts = [objective.training_batch(policy, part) for part in (*former, runner.scored_round(number))]
        if policy.corrector is not None and not done:
            policy.corrector.fit(parts)
        return training_dataloader(parts, self.trainer, self.train_batch_size, self.steps_per_epoch, self.seed, done)

    @override
    def val_dataloader(self) -> "DataLoader[Any] | list[Any]":
        count = self.evaluation.validation_draws
        return self._requests(count, "validation", "tuned") if count else []

    @override
    def test_dataloader(self) -> "list[DataLoader[Any]]":
        networks: tuple[Weights, Weights] = ("reference", "tuned")
        return [self._requests(self.evaluation.test_draws, "test", weights) for weights in networks]

    @override
    def predict_dataloader(self) -> "DataLoader[Any]":
        return self._requests(self.evaluation.test_draws, "predict", "tuned")

    def _requests(self, count: int, purpose: str, weights: Weights) -> "DataLoader[Any]":
        return DataLoader(SampleRequests(self.module, count, self.batch_size, (purpose,), weights), batch_size=None)

    def _log(self, summary: RoundSummary, to_loggers: bool) -> None:
        assert self.trainer is not None
        values = summary.metrics(filtered=bool(self.filters))
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})
        if to_loggers:
            loggers.log_metrics(self.trainer, values, self.trainer.global_step)
