"""The data of fine-tuning. A round is an epoch: draw, score, accept, keep on disk, serve what was accepted."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from graft import distributed, feasible, files, limits, seeding
from graft.accept import AcceptanceRule, Selection, TopFraction
from graft.alarms import Alarms
from graft.batches import Weights
from graft.batches.sampling import SampleRequests, sample_batch
from graft.batches.training_data import local_batch_size, training_dataloader
from graft.errors import GraftError
from graft.filters import Filter, check_requirements, filter_round
from graft.fingerprint import fingerprint, fingerprint_hash
from graft.levels.search import choose_level_if_auto
from graft.levels.search_settings import LevelSearch
from graft.module import GraftModule
from graft.objectives import ScoredRound
from graft.preflight import check
from graft.recorded_arguments import Described
from graft.reward import Reward, Scorer, Scores, Scoring, by_term
from graft.rounds import (
    ACCEPTED,
    ALL,
    Chunk,
    RolloutCache,
    RoundStore,
    RoundSummary,
    accepted_csv,
    condition_matched_mean,
    invalid_records_csv,
    prune_round,
    sources,
    variation,
)
from graft.rounds.asked import even, screen_information
from graft.rounds.scoring import (
    FailureBudget,
    raise_if_too_many_failed,
    score_round,
    screen_values,
    select_by_proxy,
    store_groups,
)
from graft.rounds.variation import Variation
from graft.runs import interruption, loggers, refuse_linked_round
from graft.sampler import nearest_level
from graft.state import Condition, State

ALARMS = Alarms()


class Rollouts(Described, LightningDataModule):
    """Draws from the model, scores them, accepts some, and serves those for training; each round is an epoch.

    Needs ``Trainer(reload_dataloaders_every_n_epochs=1)``.

    Args:
        reward: A `graft.reward.Reward`, a Python callable that takes one object, or its dotted path. With a scored
            file as source it may be left out: then samples are not scored in the comparison either.
        accept: The acceptance rule.
        filters: Applied before the rule, one after the other; see `graft.filters`.
        draws: Per round.
        source: Who draws: the ``reference`` in every round, or the ``current`` model (the tuned one, handing over to
            the reference below the level). Or the path of a file of objects with scores, of which nothing is sampled
            and nothing scored: `draws` has no effect then, a level above 0 is learned from the objects noised to it
            (right for stochastic samplers only), and there is no KL, for nobody knows whose draws they are.
        score_column: Column or property of the file that holds the scores.
        score_higher_is_better: False if a smaller score is better.
        max_invalid_fraction: Share of a scored file's records that may be unusable before it is refused.
        reuse_runs: Folders of earlier runs (or of folders of runs) whose draws are taken instead of sampling, where
            they follow the same law, and their scores, where the reward is the same. Another rule, temperature, level
            (of those recorded) or reward starts training at once. Rounds of ``source: current`` but the first are
            drawn anew.
        record_levels: Further levels to record, to choose from later with `reuse_runs`.
        proxy_reward: A cheap reward that decides which draws of a round the reward is asked for at all: the best by it
            of each condition. The others count as rejected.
        proxy_fraction: Share of a round, within each condition, that passes the screen.
        max_reward_calls: Most calls of the reward in the whole run, those for validation and for the final comparison
            included; the rounds share evenly what is left to them. Where that is less than a round's draws, a random
            subset of them is scored, each condition with its share, seeded (`graft.rounds.asked.even`); the others take
            no part in the round. ``null``: no limit.
        allow_constant_reward: Train even where the reward is the same for all draws of a round, or for all draws of
            each condition, so that what the rule accepts is arbitrary. Otherwise such a round ends the run: with an
            error, or, where the reward has become as good as what the former round accepted, with the comparison. It
            may be changed when a run is resumed.
        max_failures: Rewards that may fail: below 1 a share of those asked for in a round, from 1 on a count over the
            whole run. Beyond it the run ends, with what it has so far; when it goes on, only what failed is asked
            again. ``null``: any number, as long as one of a round does not fail.
        batch_size: Draws in a chunk: the rollout batch and the unit of randomness, so it belongs to the seed.
        train_batch_size: Samples in an optimizer step; ``trainer.accumulate_grad_batches`` is the number of its parts.
        steps_per_round: Optimizer steps in a round.
        replay_rounds: Train on what was accepted in the last so many rounds; more than one suits source ``reference``,
            whose rounds all have one law.
        validation_draws: Draws of the tuned model after each round, for the curves; 0: none.
        test_draws: Draws of the reference and of the tuned model, with the same noise, for the final comparison.
        alarms: What is watched in the validation draws besides the reward; ``null``: nothing.
        held_out_reward: Another reward, given like ``reward``, that nothing is accepted by: it is watched too.
        save_round_weights: Keep the tuned weights of rounds in ``rounds/<n>/``, to be had as a run's own.
        keep_last_rounds: How many of the newest rounds keep their draws and weights, so that the disk that a run takes
            does not grow with its rounds; older ones keep their scores, their accounts and the list of what was
            accepted. ``null``: all.
        run_dir: Folder of the run, in which ``rounds/`` is kept.
        level_search: How ``graft levels`` and ``model.level: auto`` compare levels.
        seed: Of the acceptance and of the training order; the command line links it to ``--seed_everything``.
    """

    def __init__(
        self,
        reward: "Scorer | None" = None,
        accept: "AcceptanceRule | None" = None,
        filters: "list[Filter] | None" = None,
        draws: int = 2048,
        source: str = "reference",
        score_column: "str | None" = None,
        score_higher_is_better: bool = True,
        max_invalid_fraction: float = 0.5,
        reuse_runs: "list[str] | None" = None,
        record_levels: "list[float] | None" = None,
        proxy_reward: "Scorer | None" = None,
        proxy_fraction: float = 0.25,
        max_reward_calls: "int | None" = None,
        max_failures: "float | None" = 0.9,
        allow_constant_reward: bool = False,
        batch_size: int = 128,
        train_batch_size: int = 64,
        steps_per_round: int = 600,
        replay_rounds: int = 1,
        validation_draws: int = 512,
        test_draws: int = 2000,
        alarms: "Alarms | None" = ALARMS,
        held_out_reward: "Scorer | None" = None,
        save_round_weights: bool = True,
        keep_last_rounds: "int | None" = 10,
        run_dir: "str | None" = None,
        level_search: "LevelSearch | None" = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("draws", draws, 1),
            ("batch_size", batch_size, 1),
            ("train_batch_size", train_batch_size, 1),
            ("steps_per_round", steps_per_round, 1),
            ("replay_rounds", replay_rounds, 1),
            ("validation_draws", validation_draws, 0),
            ("test_draws", test_draws, 1),
        ):
            limits.check(f"data.{name}", value, least)
        if max_reward_calls is not None:
            limits.check("data.max_reward_calls", max_reward_calls, 1)
        limits.check("data.max_invalid_fraction", max_invalid_fraction, 0, 1)
        if reward is None and source in ("reference", "current"):
            raise GraftError("data.reward is missing: draws have to be scored")
        self._identified: tuple[Reward | None, Any] | None = None
        self.reward = reward
        self.accept = accept if accept is not None else TopFraction()
        if self.accept.min_draws > draws:
            raise GraftError(f"the rule '{self.accept}' needs {self.accept.min_draws} draws, data.draws is {draws}")
        self.draws, self.source, self.batch_size = (
            draws,
            sources.make_source(source, score_column, max_invalid_fraction),
            batch_size,
        )
        self.score_higher_is_better, self.reuse_runs = score_higher_is_better, reuse_runs or []
        self._store: RolloutCache | None = None
        self.record_levels = sorted(set(record_levels or []))
        if any(not 0 <= level <= 1 for level in self.record_levels):
            raise GraftError(
                f"data.record_levels is {self.record_levels}, but levels are fractions of the steps in [0, 1]"
            )
        self.proxy_reward = proxy_reward
        if not 0 < proxy_fraction <= 1:
            raise GraftError(f"data.proxy_fraction is {proxy_fraction:g}, but it is a share in (0, 1]")
        self.proxy_fraction, self.max_reward_calls = proxy_fraction, max_reward_calls
        if max_failures is not None:
            limits.check("data.max_failures", max_failures, 0)
        self.max_failures, self.allow_constant_reward = max_failures, allow_constant_reward
        self.filters = filters or []
        self.alarms, self.held_out_reward = alarms, held_out_reward
        self.train_batch_size, self.steps_per_epoch, self.replay_rounds = (
            train_batch_size,
            steps_per_round,
            replay_rounds,
        )
        self.validation_draws, self.test_draws = validation_draws, test_draws
        if keep_last_rounds is not None and keep_last_rounds < replay_rounds:
            raise GraftError(
                f"data.keep_last_rounds is {keep_last_rounds}, but data.replay_rounds trains on the last "
                f"{replay_rounds} rounds"
            )
        self.save_round_weights, self.keep_last_rounds = save_round_weights, keep_last_rounds
        self.run_dir = Path(run_dir) if run_dir is not None else None
        self.level_search = level_search if level_search is not None else LevelSearch()
        self.seed = seed
        self.accounts: list[RoundSummary] = []
        self._tried: Trainer | None = None
        self.saturated = False  # the last round left nothing to select, and was not trained
        self._served = False  # something in this call of the trainer's fit
        self.seconds_per_draw = 0.0  # seconds for a draw and its score, of the last round

    reward = Scoring("data.reward")
    proxy_reward = Scoring("data.proxy_reward")
    held_out_reward = Scoring("data.held_out_reward")

    @property
    def module(self) -> GraftModule:
        """The model that is tuned."""
        assert self.trainer is not None
        module = self.trainer.lightning_module
        if not isinstance(module, GraftModule):
            raise GraftError(f"Rollouts draws from a GraftModule, not from {type(module).__name__}")
        return module

    @property
    def _keyed(self) -> bool:
        return self.accept.deduplicate or self.module.has_keys

    @property
    def require_reward(self) -> Reward:
        """The reward.

        Raises:
            GraftError: There is none, only a file's scores.
        """
        if self.reward is None:
            raise GraftError("this needs a reward, but there are only a file's scores: give data.reward")
        return self.reward

    @property
    def reward_label(self) -> tuple[str, str]:
        """(name, unit) of what samples are judged by: the reward, or a file's scores where there is none."""
        return (self.reward.name, self.reward.unit) if self.reward is not None else (self.source.label, "")

    @property
    def higher_is_better(self) -> bool:
        """Whether samples with a larger value of it are better."""
        return self.reward.higher_is_better if self.reward is not None else self.score_higher_is_better

    @property
    def same_scale(self) -> bool:
        """Whether what is accepted and what samples are judged by is one quantity; of a scored file it need not be."""
        return self.source.is_model or self.reward is None

    @property
    def accept_higher_is_better(self) -> bool:
        """Whether the rule is after larger scores."""
        return self.require_reward.higher_is_better if self.source.is_model else self.score_higher_is_better

    def round_dir(self, number: int) -> Path:
        """Of a round, counted from 0."""
        if self.run_dir is None:
            raise GraftError("Rollouts needs run_dir, the folder in which rounds are kept")
        return self.run_dir / "rounds" / str(number)

    def setup(self, stage: str) -> None:
        """Refuse at once what would fail after a round."""
        if stage == "fit":
            self.accounts = []
            self.saturated = self._served = False
            self._check()
            assert self.trainer is not None
            self._identified = None  # where a reward cannot be identified, every process takes the first one's token
            self._identified = self.reward, distributed.on_rank_zero(self.trainer, lambda: self.reward_identity)
            check_requirements(self.filters, self.module)
        if stage != "predict" and self.reward is not None:
            self.reward.setup()

    def _check(self) -> None:
        if not self.source.is_model and self.module.level_setting == "auto":
            raise GraftError("model.level 'auto' asks the reference and the reward, not a scored file: give a level")
        if (
            self.module.level_setting == "auto"
            and max(self.level_search.candidates_on_grid(self.module.steps)) >= self.module.upper_level
        ):
            raise GraftError(
                f"model.level 'auto' chooses among data.level_search.candidates, which must lie below "
                f"model.upper_level, "
                f"{self.module.upper_level:g}: name such ones"
            )
        if self.module.level_setting == "auto" and self.max_reward_calls is not None:
            raise GraftError(
                "data.max_reward_calls does not cover what model.level 'auto' asks of the reward: give the level, from "
                "graft levels"
            )
        if self.module.level_setting != "auto":  # else as soon as it is known
            self.module.objective.check(self.module, self)
        assert self.trainer is not None
        local_batch_size(self.trainer, self.train_batch_size)
        self.source.open(self.module)
        feasible.check_rounds(
            self.module,
            self.run_dir,
            draws=self.draws if self.source.is_model else 0,
            levels=len(self.record_levels) + 1,
            rounds=self._rounds,
            batch_size=self.batch_size,
            train_batch_size=self.train_batch_size,
            steps_per_round=self.steps_per_epoch,
        )
        for name, count, times in (
            ("validation_draws", self.validation_draws, self._rounds),
            ("test_draws", self.test_draws, 2),
        ):
            feasible.check_sampling(self.module, f"data.{name}", count, times)
        if self.reuse_runs and self._store is None:
            self._store = RolloutCache(self.reuse_runs)
        if self.proxy_reward is not None and self.proxy_fraction * self.draws < self.accept.min_draws:
            raise GraftError(
                f"data.proxy_fraction is {self.proxy_fraction:g}, so that the reward is asked for less than "
                f"{self.accept.min_draws} of {self.draws} draws, which the rule '{self.accept}' needs: raise it"
            )
        if self.max_reward_calls is not None and self.reward_calls_per_round < self.accept.min_draws:
            raise GraftError(
                f"data.max_reward_calls is {self.max_reward_calls}, of which validation and comparison take "
                f"{self._judged}: "
                f"the {self._rounds} rounds have {max(0, self.reward_calls_per_round)} calls each, but the rule "
                f"'{self.accept}' "
                f"needs {self.accept.min_draws}: raise it, or lower data.test_draws and data.validation_draws"
            )

    @property
    def _rounds(self) -> int:
        assert self.trainer is not None
        return max(1, self.trainer.max_epochs or 1)

    @property
    def _judged(self) -> int:
        """Calls of the reward outside the rounds."""
        return 2 * self.test_draws + self._rounds * self.validation_draws

    @property
    def reward_calls_per_round(self) -> int:
        """Most calls of the reward in a round."""
        if self.max_reward_calls is None:
            return self.draws
        return min(self.draws, (self.max_reward_calls - self._judged) // self._rounds)

    def train_dataloader(self) -> "DataLoader[Any] | list[Any]":
        """Do the round and serve what it accepted."""
        assert self.trainer is not None
        if getattr(self.trainer, "reload_dataloaders_every_n_epochs", 1) != 1:
            raise GraftError("a round is an epoch: use Trainer(reload_dataloaders_every_n_epochs=1)")
        done = interruption.completed_batches(self.trainer)
        self._try_hooks()
        choose_level_if_auto(self)
        self.module.objective.check(self.module, self)
        number = self.trainer.current_epoch
        self.accounts = self.accounts[:number]
        self.accounts += [RoundSummary.read(self.round_dir(n))[0] for n in range(len(self.accounts), number)]
        if number == self.trainer.max_epochs or self.trainer.should_stop:  # resumed after the last round
            return []
        self._forget(number)
        first = max(0, number - self.replay_rounds + 1)
        module = self.module
        former = [self._scored(n) for n in range(first, number)]
        if done:
            module.objective.on_round_resume(module)
            account, *_ = RoundSummary.read(self.round_dir(number))
            self._log(account, again=True)
        else:
            self._together()
            module.objective.on_round_start(module, number)
            account = self._round(number)
            self._log(account)
        self.accounts.append(account)
        if self.saturated:
            if self._served:
                raise StopIteration  # which ends Lightning's loop over epochs
            return []
        self._served = True
        parts = [module.objective.training_batch(module, part) for part in (*former, self._scored(number))]
        if module.corrector is not None and not done:
            module.corrector.fit(parts)
        return training_dataloader(parts, self.trainer, self.train_batch_size, self.steps_per_epoch, self.seed, done)

    def _try_hooks(self) -> None:
        """Before the first round of a session: what would fail after it fails now."""
        assert self.trainer is not None
        if self.trainer is self._tried or self.trainer.current_epoch == self.trainer.max_epochs:
            return
        self._tried = self.trainer
        needs = frozenset().union(*(each.requires for each in self.filters))
        watched = self.alarms is not None and bool(self.validation_draws) and self.module.has_features
        count = min(filter(None, (self.validation_draws, self.test_draws)))
        scored, features = self.reward is not None, "features" in needs or watched
        check(self.module, self.trainer, scored, features, "known" in needs, count, "reference")

    def val_dataloader(self) -> "DataLoader[Any] | list[Any]":
        """Requests for draws of the tuned model, the same after every round."""
        if not self.validation_draws:
            return []
        return self._requests(self.validation_draws, "validation", "tuned")

    def test_dataloader(self) -> "list[DataLoader[Any]]":
        """Requests for draws of the reference and of the tuned model, with the same conditions and noise."""
        return [self._requests(self.test_draws, "test", weights) for weights in ("reference", "tuned")]

    def predict_dataloader(self) -> "DataLoader[Any]":
        """Requests for draws of the tuned model."""
        return self._requests(self.test_draws, "predict", "tuned")

    def round_rewards(self, number: int) -> list[float]:
        """The rewards of a round's draws, NaN where there is none."""
        return self._store_of(number).scores()[0].values

    def groups(self, number: int) -> Tensor:
        """(draws,) integer of the condition of each of a round's draws."""
        return store_groups(self.module, self._store_of(number))

    def round_rewards_and_keys(self, number: int) -> tuple[Scores, list[str]]:
        """The rewards and the keys of a round's draws; nothing of a round that the disk no longer has."""
        store = self._store_of(number)
        there = all(store.has_chunk(i) and store.has_scores(i) for i in range(len(store.rows)))
        return store.scores() if there else (Scores([]), [])

    def round_samples(self, number: int, index: Tensor) -> tuple[State, Condition]:
        """The final states and conditions of some of a round's draws, positions (A,) ascending."""
        return self._store_of(number).take(index)

    @property
    def _needed(self) -> tuple[float, ...]:
        """Levels whose states are learned from."""
        return self.module.objective.record_levels(self.module) if self.source.is_model else ()

    @property
    def chunk_sizes(self) -> list[int]:
        """Samples in each chunk of a round."""
        count = self.source.count(self.draws)
        return [min(self.batch_size, count - start) for start in range(0, count, self.batch_size)]

    def _store_of(self, number: int, origin: "dict[str, Any] | None" = None) -> RoundStore:
        return RoundStore(self.round_dir(number), origin, self.chunk_sizes, self._asked)

    @property
    def reward_identity(self) -> Any:
        """The `graft.fingerprint.fingerprint` of the reward as the fit began; it may change while it scores."""
        if self._identified is None or self._identified[0] is not self.reward:
            self._identified = self.reward, fingerprint(self.reward)
        return self._identified[1]

    @property
    def _asked(self) -> Any:
        """What the scores of a round depend on besides its draws."""
        if not self.source.is_model:
            return None
        asked = {"reward": self.reward_identity}
        if self.proxy_reward is not None or self.reward_calls_per_round < self.draws:
            chosen = {
                "by": fingerprint(self.proxy_reward),
                "share": self.proxy_fraction,
                "most": self.reward_calls_per_round,
            }
            asked["chosen"] = {**chosen, "seed": self.seed}
        return fingerprint_hash(asked)

    def _requests(self, count: int, purpose: str, weights: Any) -> "DataLoader[Any]":
        return DataLoader(SampleRequests(self.module, count, self.batch_size, (purpose,), weights), batch_size=None)

    def _round(self, number: int) -> RoundSummary:
        """Draw, score and accept; what is on disk of the round is not done again."""
        module = self.module
        refuse_linked_round(self.round_dir(number))
        store = self._store_of(number, self.source.origin(module, number))
        began = time.perf_counter()
        self._sample(store, number)
        self._together()
        self._score(store, number)
        self._together()
        self.seconds_per_draw = (time.perf_counter() - began) / sum(store.rows)
        if self.source.is_model:
            raise_if_too_many_failed(store, self.require_reward, self._budget, self._barrier)
        scores, keys = store.scores()
        rewards = torch.tensor(scores.values, dtype=torch.float64)
        chunks = range(len(store.rows))
        groups = store_groups(module, store)
        signed = rewards if self.accept_higher_is_better else -rewards
        earlier = [(self._store_of(n), RoundSummary.read(self.round_dir(n))[1]) for n in range(number) if self.filters]
        how = seeding.make_generator(self.seed, "filter", number)
        candidates = filter_round(self.filters, module, store, earlier, signed, groups, keys, how)
        generator = seeding.make_generator(self.seed, "accept", number)
        scored, screen = self._scored_draws(store, scores, groups)
        chosen = self.accept(
            signed, groups, keys, generator, candidates.eligible, candidates.interchangeable, scored, screen
        )
        varied = self._varied(number, rewards, chosen)
        mean, covered = condition_matched_mean(rewards, groups, chosen.index, chosen.weight)
        named = [key for key in keys if key]
        sampled = self.source.is_model
        stored = sum(store.rows[i] for i in chunks if store.is_cached(i))
        account = RoundSummary(
            round=number,
            source=self.source.name,
            draws=len(rewards),
            accepted=len(chosen.index),
            acceptance_rate=len(chosen.index) / (int(scored.sum()) if screen is None else len(rewards)),
            effective_sample_size=chosen.effective_sample_size,
            kl_nats=chosen.kl_nats if sampled else None,
            failed_rewards=len(scores.failures),
            duplicates=len(named) - len(set(named)),
            reward=float(rewards.nanmean()),
            accepted_reward=mean,
            matched_share=covered,
            denoiser_calls=(len(rewards) - stored) * module.denoiser_calls(self._whose) if sampled else 0,
            reward_calls=sum(store.reward_calls(i) for i in chunks) if sampled else 0,
            failures=dict(Counter(scores.failures.values()).most_common(5)),
            not_scored=int(rewards.isnan().sum()) - len(scores.failures),
            reused=stored,
            invalid_records=len(self.source.left_out),
            filtered=dict(candidates.rejected_by),
            reward_calls_by_term=by_term(self.reward, map(store.calls_by_term, chunks)) if sampled else {},
            constant_conditions=varied.constant,
            conditions=varied.conditions,
        )
        if self.trainer is not None and self.trainer.is_global_zero:
            store.write_subset(ACCEPTED, chosen.index, self._needed)
            if module.objective.needs_rejected:
                store.write_subset(ALL, torch.arange(len(rewards)), self._needed)
            files.write_text(
                store.folder / "accepted.csv", accepted_csv(chosen.index, chosen.weight, scores.values, keys)
            )
            if not sampled:
                files.write_text(store.folder / "invalid_records.csv", invalid_records_csv(self.source.left_out))
            account.write(store.folder, chosen.index, chosen.weight)
        self._barrier()
        return account

    def _varied(self, number: int, rewards: Tensor, chosen: Selection) -> Variation:
        """How the rewards that the rule ranked vary; see `graft.rounds.variation`.

        Raises:
            GraftError: They do not, and that is not allowed.
        """
        found = variation.variation(rewards, chosen.bins)
        if not (self.accept.is_selective or self.module.objective.uses_rewards):
            return found
        name = self.require_reward.name if self.source.is_model else self.source.label
        sign, former = 1 if self.accept_higher_is_better else -1, self.accounts[-1] if self.accounts else None
        if found.selectable:
            if found.constant:
                where = f"{found.constant} of {found.conditions} conditions of round {number + 1}"
                distributed.rank_zero_print(
                    f"the reward {name} does not vary within {where}, where nothing is selected"
                )
            elif self.accept.is_selective and round(chosen.effective_sample_size, 6) == found.candidates:
                distributed.rank_zero_print(
                    f"the rule '{self.accept}' accepts all candidates of round {number + 1}: nothing is selected"
                )
        elif self.allow_constant_reward:
            distributed.rank_zero_print(f"{variation.sentence(found, name, number)}: what is accepted is arbitrary")
        elif former is not None and sign * found.mean >= sign * former.accepted_reward:
            self.saturated = True
            distributed.rank_zero_print(
                f"{variation.sentence(found, name, number)}, no worse than what round {number} accepted: nothing is "
                f"left to select, so that training ends with the weights of round {number}"
            )
        else:
            variation.refuse(found, name, number)
        return found

    def accepted_round(self, number: int) -> ScoredRound:
        """What a round accepts; done first if it is not on disk. Within a trainer that has set up its strategy."""
        if not (self.round_dir(number) / "round.json").exists():
            self._round(number)
        return self._scored(number)

    def _scored(self, number: int) -> ScoredRound:
        """What a finished round accepted, from disk."""
        _, index, weight = RoundSummary.read(self.round_dir(number))
        store = self._store_of(number)
        rewards = torch.tensor(store.scores()[0].values, dtype=torch.float64)
        if self.module.objective.needs_rejected:
            chunk, weight = store.read_subset(ALL), torch.zeros_like(rewards).index_put((index,), weight)
        else:
            chunk, rewards = store.read_subset(ACCEPTED), rewards[index]
        signed = rewards if self.accept_higher_is_better else -rewards
        return ScoredRound(chunk, signed, self.module.group(chunk.condition), weight, self.source.behaviour)

    def _sample(self, store: RoundStore, number: int) -> None:
        """Have every chunk of the round on disk."""
        assert self.trainer is not None
        module, source = self.module, self.source
        needed = self._needed
        also = {nearest_level(level, module.steps) for level in self.record_levels} - {0.0}
        levels = tuple(sorted({*needed, *also}))
        requests = SampleRequests(module, self.draws, self.batch_size, ("rollout", number), self._whose, levels)
        world = self.trainer.world_size
        for index in range(self.trainer.global_rank, len(store.rows), world):
            if store.has_chunk(index):
                store.read_chunk(index)  # refuses another model's
            elif (ready := source.preloaded(self._rows(index))) is not None:
                store.write_chunk(index, ready[0])
            elif self._store is not None and self._reusable(number):
                store.link_cached(index, self._store, needed)
        self._barrier()
        missing = [index for index in range(len(store.rows)) if not store.has_chunk(index)]
        distributed.assert_same(
            self.trainer, "what is to be drawn", missing
        )  # nor does anybody write before all have looked
        with self._progress(number, "sampling") as bar:
            bar.update(sum(self.chunk_sizes) - sum(self.chunk_sizes[index] for index in missing))
            for index, mine in distributed.round_robin(self.trainer, missing):
                self._stop()
                request = requests[index]
                with distributed.shared_errors(self.trainer):
                    drawn = sample_batch(self.trainer, request, index)
                if mine:
                    store.write_chunk(index, Chunk(drawn.state, drawn.states, request.condition))
                bar.update(min(self.chunk_sizes[index] * world, sum(self.chunk_sizes) - bar.n))

    def _rows(self, index: int) -> slice:
        """Of a chunk, in the round."""
        return slice(index * self.batch_size, index * self.batch_size + self.chunk_sizes[index])

    def _forget(self, number: int) -> None:
        """As a round begins, let go of the files of those that are not among the newest."""
        assert self.trainer is not None
        if self.keep_last_rounds is not None and self.trainer.is_global_zero:
            for old in range(number + 1 - self.keep_last_rounds):
                refuse_linked_round(self.round_dir(old))
                prune_round(self.round_dir(old), but=(ACCEPTED,) if self.filters else ())

    @property
    def _whose(self) -> Weights:
        return "current" if self.source.name == "current" else "reference"

    def _reusable(self, number: int) -> bool:
        """Whether an earlier run can have drawn from the model that draws now."""
        return self.source.name == "reference" or number == 0

    def _score(self, store: RoundStore, number: int) -> None:
        """Have this reward's scores of every chunk on disk."""
        if not self.source.is_model:
            for index in range(len(store.rows)):
                ready = self.source.preloaded(self._rows(index))
                if ready is not None and not store.has_scores(index):
                    store.write_scores(index, *ready[1:])
            return
        asked = self._passed(store, number)
        score_round(
            self.module, self.require_reward, store, asked, self._bar(number, "scoring"), self._keyed, self._budget
        )

    @property
    def _budget(self) -> FailureBudget:
        """Of the rewards that may fail in the round that is done."""
        assert self.trainer is not None
        before = sum(account.failed_rewards for account in self.accounts)
        return FailureBudget(self.max_failures, before, self.trainer.world_size > 1)

    def _passed(self, store: RoundStore, number: int) -> Tensor:
        """(draws,) whether the reward is asked for a draw: the screen's best of each condition, within the budget."""
        generator, count = seeding.make_generator(self.seed, "asked", number), sum(store.rows)
        if self.proxy_reward is None and self._most >= count:
            return torch.ones(count, dtype=torch.bool)
        if self.proxy_reward is None:
            return even(store_groups(self.module, store), self._most, generator)
        bar = self._bar(number, "screening")
        return select_by_proxy(self.module, self.proxy_reward, store, self._most, bar, self._together, generator)

    @property
    def _most(self) -> int:
        """Draws of a round that the reward is asked for."""
        share = 1.0 if self.proxy_reward is None else self.proxy_fraction
        return min(self.reward_calls_per_round, math.floor(share * self.draws + 1e-9))

    def _scored_draws(self, store: RoundStore, scores: Scores, groups: Tensor) -> tuple[Tensor, "Tensor | None"]:
        """Return (draws,) whether a draw was scored, and how the proxy chose them, if there is one."""
        scored = ~torch.tensor(scores.values, dtype=torch.float64).isnan()
        scored[list(scores.failures)] = True
        if self.proxy_reward is None or not self.source.is_model:
            return scored, None
        values = screen_values(self.module, self.proxy_reward, store)
        return scored, screen_information(values, groups, scored)

    def describe(self) -> str:
        """The filters and the rule in a few words."""
        return "".join(f"{each}, then " for each in self.filters) + self.accept.describe()

    def _bar(self, number: int, what: str) -> Iterator[int]:
        """This process's chunks, with progress in draws."""
        assert self.trainer is not None
        rank, world = self.trainer.global_rank, self.trainer.world_size
        with self._progress(number, what) as bar:
            for index in range(rank, len(self.chunk_sizes), world):
                if self._asked_to_stop:
                    return
                yield index
                bar.update(min(self.batch_size * world, sum(self.chunk_sizes) - bar.n))

    def _progress(self, number: int, what: str) -> Any:
        assert self.trainer is not None
        quiet = self.trainer.progress_bar_callback is None or not self.trainer.is_global_zero
        title = f"round {number + 1}/{self.trainer.max_epochs} {what}"
        return tqdm(total=sum(self.chunk_sizes), desc=title, unit="draw", disable=quiet, leave=True, mininterval=0.5)

    @property
    def _asked_to_stop(self) -> bool:
        """This process was, and does no more chunks; `_together` follows."""
        asked = interruption.find_interruption(self.trainer)
        return asked is not None and asked.asked is not None

    def _together(self) -> None:
        """Wait for the other processes; see `_stop`."""
        self._barrier()
        self._stop()

    def _stop(self) -> None:
        """End where a signal asks any process to, with what is on disk; all call it together."""
        if (asked := interruption.find_interruption(self.trainer)) is not None:
            asked.stop(self.trainer)

    def _barrier(self) -> None:
        assert self.trainer is not None
        self.trainer.strategy.barrier()

    def _log(self, account: RoundSummary, again: bool = False) -> None:
        """Log a round's figures, to the trainer's loggers unless ``again``, and for callbacks that monitor one."""
        assert self.trainer is not None
        values = {
            "rollout/reward": account.reward,
            "rollout/accepted_reward": account.accepted_reward,
            "rollout/acceptance_rate": account.acceptance_rate,
            "rollout/failed_rewards": float(account.failed_rewards),
            "rollout/duplicates": float(account.duplicates),
        }
        if account.kl_nats is not None:
            values["rollout/kl_nats"] = account.kl_nats
        if self.filters:
            values["rollout/refused"] = float(sum(account.filtered.values()))
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})
        if not again:
            loggers.log_metrics(self.trainer, values, self.trainer.global_step)
