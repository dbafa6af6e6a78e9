"""Samples for a comparison of levels: draws of the reference with predictions at each level, and re-rolled states."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor

from graft.accept import Selection
from graft.core import distributed, seeding
from graft.core.datatypes import SampleRequest
from graft.core.progress import progress
from graft.core.state import Condition, State, cat, move, size, take
from graft.dataloaders.sampling import SampleRequests, sample_batch
from graft.reward import score_objects
from graft.rollouts import Rollouts

T = TypeVar("T")


@dataclass
class DrawnChunk:
    """Draws of one request, scored, with the predictions of the sample at each level.

    Attributes:
        recorded: State of the draws by level.
        condition: Condition of each draw.
        groups: (n,) integer of the condition of each draw.
        rewards: Reward of each draw, NaN where the reward failed; empty if nothing is scored.
        keys: Key of each draw; empty if the rule does not deduplicate.
        guesses: Reward of the predicted sample of each draw by level, NaN where it cannot be scored.
        score_gap: (n,) squared distance of the score from the prior's score by level.
        calls: Number of denoiser calls.
        failed: Number of failed rewards of the draws.
        reward_calls: Number of reward calls for the draws.
        guess_calls: Number of reward calls for the predictions by level.
    """

    recorded: dict[float, State]
    condition: Condition
    groups: Tensor
    rewards: list[float]
    keys: list[str]
    guesses: dict[float, list[float]]
    score_gap: dict[float, Tensor]
    calls: int
    failed: int = 0
    reward_calls: int = 0
    guess_calls: dict[float, int] = field(default_factory=dict)


def sample_scored_chunks(data: Rollouts, requests: SampleRequests, scored: bool) -> list[DrawnChunk]:
    """Return the draws of all requests, sampled by all ranks together.

    Args:
        data: The rollouts, within a trainer that has set up its strategy.
        requests: Requests for draws of the reference.
        scored: True to score the draws and their predictions.
    """
    return _on_all_ranks(data, "sampling", len(requests), lambda i: _sample_chunk(data, requests[i], i, scored))


def _sample_chunk(data: Rollouts, request: SampleRequest, index: int, scored: bool) -> DrawnChunk:
    module, trainer = data.module, data.trainer
    assert trainer is not None
    drawn = sample_batch(trainer, replace(request, predict_x0=True), index)
    condition = request.condition
    recorded = {u: move(state, "cpu") for u, state in drawn.states.items()}
    predicted = {u: move(state, "cpu") for u, state in drawn.x0_predictions.items()}
    chunk = DrawnChunk(
        recorded=recorded,
        condition=condition,
        groups=module.group(condition).cpu(),
        rewards=[],
        keys=[],
        guesses={},
        score_gap={u: module.policy.process.score_gap(predicted[u], recorded[u], u, condition) for u in recorded},
        calls=drawn.denoiser_calls * size(condition),
    )
    if scored:
        items = module.decode(move(drawn.state, "cpu"), condition)
        chunk.keys = [module.key(item) for item in items] if data.accept.deduplicate else []
        chunk.rewards, chunk.failed, chunk.reward_calls = _score(data, items)
        for u, state in predicted.items():
            # A prediction without a score is not a failure of the reward: many blurred objects have no reward.
            chunk.guesses[u], _, chunk.guess_calls[u] = _score(data, module.decode(state, condition))
    return chunk


class AcceptedStates:
    """The accepted draws that are re-rolled.

    These are all accepted draws, equally often, or a random choice if there are more than ``most``.

    Args:
        chunks: All draws.
        chosen: The accepted draws.
        most: Largest number of re-rolled states.
        generator: Random generator of the choice.

    Attributes:
        rows: (R,) position of each re-rolled draw, repeated as often as the draw is re-rolled.
        draws: Number of draws.
    """

    def __init__(self, chunks: list[DrawnChunk], chosen: Selection, most: int, generator: Generator) -> None:
        self.chunks = chunks
        self.draws = sum(size(chunk.condition) for chunk in chunks)
        most = max(1, most)
        order = chosen.index[torch.randperm(len(chosen.index), generator=generator)[:most]]
        self.rows = order.sort().values.repeat_interleave(max(1, most // len(chosen.index)))

    def request(self, level: float, rows: Tensor, purpose: tuple["int | str", ...]) -> SampleRequest:
        """Return the request to sample from the states of draws at a level, with new noise."""
        start = take(cat([chunk.recorded[level] for chunk in self.chunks]), rows)
        condition = take(cat([chunk.condition for chunk in self.chunks]), rows)
        return SampleRequest(condition, purpose, "reference", start=level, state=start)


def reroll(data: Rollouts, states: AcceptedStates, level: float) -> tuple[Tensor, int, int, int]:
    """Return (mean rewards, denoiser calls, failed rewards, reward calls) of re-rolls.

    The mean rewards are (n,), NaN for a draw that is not re-rolled.

    Args:
        data: The rollouts, within a trainer that has set up its strategy.
        states: The accepted draws that are re-rolled.
        level: Level from which the reference samples again.
    """
    rows = states.rows
    pieces = [rows[i : i + data.batch_size] for i in range(0, len(rows), data.batch_size)]

    def sample_piece(index: int) -> tuple[list[float], int, int, int]:
        assert data.trainer is not None
        request = states.request(level, pieces[index], ("levels", "again", repr(level), index))
        drawn = sample_batch(data.trainer, request, index)
        items = data.module.decode(move(drawn.state, "cpu"), request.condition)
        rewards, failed, reward_calls = _score(data, items)
        return rewards, drawn.denoiser_calls * len(items), failed, reward_calls

    parts = _on_all_ranks(data, f"re-rolling from {level:.4g}", len(pieces), sample_piece)
    rewards = torch.tensor([r for part, *_ in parts for r in part], dtype=torch.float64)
    known = ~rewards.isnan()
    total, number = torch.zeros(2, states.draws, dtype=torch.float64)
    total.index_add_(0, states.rows[known], rewards[known])
    number.index_add_(0, states.rows[known], torch.ones(int(known.sum()), dtype=torch.float64))
    calls, failures, reward_calls = (sum(each) for each in zip(*(part[1:] for part in parts), strict=True))
    return total / number, calls, failures, reward_calls


def make_levels_generator(data: Rollouts, purpose: str) -> Generator:
    """Return the random generator of the comparison for a purpose."""
    return seeding.make_generator(data.seed, "levels", purpose)


def _score(data: Rollouts, items: list[Any]) -> tuple[list[float], int, int]:
    """Return (rewards, number of failures, number of reward calls)."""
    scores = score_objects(data.rounds.require_reward, items)
    return scores.values, len(scores.failures), scores.reward_calls


def _on_all_ranks(data: Rollouts, title: str, count: int, work: Callable[[int], T]) -> list[T]:
    """Return ``work(i)`` for all i below ``count``, in order, on every rank.

    Each rank computes a part.
    """
    assert data.trainer is not None
    trainer = data.trainer
    mine = range(trainer.global_rank, count, trainer.world_size)
    quiet = trainer.progress_bar_callback is None or not trainer.is_global_zero
    with distributed.shared_errors(trainer):
        results = {}
        with progress(f"levels: {title}", len(mine), "chunk", quiet) as bar:
            for index in mine:
                results[index] = work(index)
                bar.update()
    return list(distributed.gather_dict(trainer, results).values())
