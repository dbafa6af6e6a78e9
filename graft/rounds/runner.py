"""RoundRunner: sample, score and accept a round, and write the accepted draws."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from time import perf_counter

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from graft.domain import Domain
from graft.io.atomic import write_text
from graft.io.invalid_records import invalid_records_csv
from graft.objectives import Objective, ScoredRound
from graft.objectives.reference_error import ErrorRatio, chosen_samples
from graft.policy import Policy
from graft.reward import Scores, by_term, oriented
from graft.rounds.acceptance import AcceptedRound, accept_round, check_variation
from graft.rounds.gain import condition_matched_mean
from graft.rounds.ranks import Ranks
from graft.rounds.reference_check import check_reference
from graft.rounds.round_store import ACCEPTED, ALL, RoundStore, prune_round
from graft.rounds.sampling import RoundSampler
from graft.rounds.scoring import RoundScorer
from graft.rounds.settings import RoundSettings
from graft.rounds.summary import RoundSummary, accepted_csv
from graft.rounds.variation import Variation
from graft.runs import refuse_linked_round


class RoundRunner:
    """Runs the rounds of a run. A step of a round that is on disk is not repeated.

    Args:
        domain: The domain of the objects.
        policy: The policy that samples.
        objective: The objective that learns from the rounds.
        settings: The settings of the rounds.
        trainer: The trainer of the run, with its strategy set up.

    Attributes:
        saturated: True if the last round left nothing to select.
        seconds_per_draw: Seconds to sample and score one draw in the last round.
    """

    def __init__(
        self, domain: Domain, policy: Policy, objective: Objective, settings: RoundSettings, trainer: Trainer
    ) -> None:
        self.domain, self.policy, self.objective, self.settings = domain, policy, objective, settings
        self.trainer = trainer
        self.saturated, self.seconds_per_draw = False, 0.0

    @property
    def ranks(self) -> Ranks:
        """Return the ranks that run a round together."""
        return Ranks(self.trainer, self.settings.chunk_sizes)

    @property
    def record_levels(self) -> tuple[float, ...]:
        """Return the levels at which the objective needs states, as far as a file has them."""
        needed, source = self.objective.record_levels(self.policy), self.settings.source
        return needed if source.is_model else tuple(level for level in needed if level in source.recorded)

    def run(self, number: int, summaries: Sequence[RoundSummary] = ()) -> RoundSummary:
        """Run a round and return its summary: sample, score, accept and write.

        Args:
            number: Number of the round, counted from 0.
            summaries: The summaries of earlier rounds.

        Raises:
            GraftError: Too many rewards fail, or there is nothing to select.
        """
        settings, ranks = self.settings, self.ranks
        refuse_linked_round(settings.round_dir(number))
        origin = settings.source.origin(self.domain, self.policy, number, str(self.trainer.precision))
        if settings.samples_per_prefix > 1:
            origin["samples_per_prefix"] = settings.samples_per_prefix
        store = settings.store(number, origin)
        began = perf_counter()
        sampler = RoundSampler(self.domain, self.policy, settings, self.trainer)
        sampler.sample(store, number, self.record_levels)
        ranks.wait()
        failed = sum(each.failed_rewards for each in summaries)
        scores, keys = RoundScorer(self.domain, settings, ranks, failed).score(store, number)
        self.seconds_per_draw = (perf_counter() - began) / sum(store.chunk_sizes)
        accepted = accept_round(self.domain, store, scores, keys, settings, number)
        former = summaries[-1] if summaries else None
        varied, self.saturated = check_variation(accepted, settings, number, former, self.objective.uses_rewards)
        shared = self.policy.denoiser_calls_of_prefix(sampler.weights) * (1 - 1 / settings.samples_per_prefix)
        denoiser_calls = self.policy.denoiser_calls(sampler.weights) - shared
        summary = summarise(settings, store, number, scores, accepted, varied, denoiser_calls)
        trains = number == 0 and self.trainer.state.fn == TrainerFn.FITTING  # graft compare runs rounds to look at
        error = self._reference_error(store, accepted) if trains else None
        summary.reference_error = None if error is None else asdict(error)
        if ranks.is_global_zero:
            self._write(store, scores, accepted, summary)
        ranks.barrier()
        return summary

    def _reference_error(self, store: RoundStore, accepted: AcceptedRound) -> "ErrorRatio | None":
        policy, source, index = self.policy, self.settings.source, accepted.selection.index
        if not self.objective.repeats_reference_error or policy.corrector is not None or not source.is_model:
            return None
        weight = torch.zeros(len(accepted.groups), dtype=torch.float64).index_put((index,), accepted.selection.weight)
        chosen = chosen_samples(len(weight), self.settings.seed)
        chunk = store.take(chosen)
        signed = oriented(accepted.rewards[chosen], self.settings.accept_higher_is_better)
        scored = ScoredRound(chunk, signed, accepted.groups[chosen], weight[chosen], source.behaviour)
        return check_reference(policy, self.objective, scored, self.settings.seed, self.trainer)

    def _write(self, store: RoundStore, scores: Scores, accepted: AcceptedRound, summary: RoundSummary) -> None:
        index, weight = accepted.selection.index, accepted.selection.weight
        store.write_subset(ACCEPTED, index, self.record_levels)
        if self.objective.needs_rejected:
            store.write_subset(ALL, torch.arange(len(scores.values)), self.record_levels)
        table = accepted_csv(index, weight, scores.values, accepted.keys)
        write_text(store.folder / "accepted.csv", table)
        if not self.settings.source.is_model:
            records = invalid_records_csv(self.settings.source.left_out)
            write_text(store.folder / "invalid_records.csv", records)
        summary.write(store.folder, index, weight)  # the summary comes last, because it marks the round as finished

    def scored_round(self, number: int) -> ScoredRound:
        """Return the accepted draws of a finished round from disk, or all its draws with weights.

        All draws are returned if the objective needs rejected draws; a rejected draw has weight 0.
        """
        _, index, weight = RoundSummary.read(self.settings.round_dir(number))
        store = self.settings.store(number)
        rewards = torch.tensor(store.scores()[0].values, dtype=torch.float64)
        each, rows = self.settings.samples_per_prefix, torch.arange(len(rewards))
        if self.objective.needs_rejected:
            chunk, weight = store.read_subset(ALL), torch.zeros_like(rewards).index_put((index,), weight)
        else:
            chunk, rewards, rows = store.read_subset(ACCEPTED), rewards[index], index
        signed = oriented(rewards, self.settings.accept_higher_is_better)
        groups, prefix = self.domain.group(chunk.condition), rows // each if each > 1 else None
        return ScoredRound(chunk, signed, groups, weight, self.settings.source.behaviour, prefix)

    def accepted_round(self, number: int) -> ScoredRound:
        """Return the accepted draws of a round; an unfinished round is run first."""
        if not (self.settings.round_dir(number) / "round.json").exists():
            self.run(number)
        return self.scored_round(number)

    def prune(self, number: int) -> None:
        """Remove the samples of old rounds when round ``number`` begins, by ``keep_last_rounds``."""
        if self.settings.keep_last_rounds is not None and self.trainer.is_global_zero:
            for old in range(number + 1 - self.settings.keep_last_rounds):
                refuse_linked_round(self.settings.round_dir(old))
                prune_round(self.settings.round_dir(old), but=(ACCEPTED,) if self.settings.filters else ())


def summarise(
    settings: RoundSettings,
    store: RoundStore,
    number: int,
    scores: Scores,
    accepted: AcceptedRound,
    varied: Variation,
    denoiser_calls: float,
) -> RoundSummary:
    """Return the summary of a round.

    Args:
        settings: The settings of the rounds.
        store: The store of the round.
        number: Number of the round.
        scores: The scores of all samples.
        accepted: The outcome of the acceptance.
        varied: Variation of the rewards.
        denoiser_calls: Number of denoiser calls of one sample; a call that samples share counts in part.
    """
    rewards: Tensor = accepted.rewards
    selection, sampled = accepted.selection, settings.source.is_model
    chunks = range(len(store.chunk_sizes))
    mean, covered = condition_matched_mean(rewards, accepted.groups, selection.index, selection.weight)
    named = [key for key in accepted.keys if key]
    reused = sum(store.chunk_sizes[i] for i in chunks if store.is_cached(i))
    return RoundSummary(
        round=number,
        source=settings.source.name,
        draws=len(rewards),
        accepted=len(selection.index),
        acceptance_rate=len(selection.index) / (len(rewards) if accepted.proxy else int(accepted.scored.sum())),
        effective_sample_size=selection.effective_sample_size,
        kl_nats=selection.kl_nats if sampled else None,
        failed_rewards=len(scores.failures),
        duplicates=len(named) - len(set(named)),
        reward=float(rewards.nanmean()),
        accepted_reward=mean,
        matched_share=covered,
        denoiser_calls=round((len(rewards) - reused) * denoiser_calls) if sampled else 0,
        reward_calls=sum(store.reward_calls(i) for i in chunks) if sampled else 0,
        failures=dict(Counter(scores.failures.values()).most_common(5)),
        not_scored=int(rewards.isnan().sum()) - len(scores.failures),
        reused=reused,
        invalid_records=len(settings.source.left_out),
        filtered=dict(accepted.candidates.rejected_by),
        reward_calls_by_term=by_term(settings.reward, map(store.calls_by_term, chunks)) if sampled else {},
        constant_conditions=varied.constant,
        conditions=varied.conditions,
    )
