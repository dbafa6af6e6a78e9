"""The analysis: draws of the reference, their estimates and re-rolls scored, and the level that follows from them."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from graft import distributed, feasible, files, plain_json, seeding
from graft.accept import Selection
from graft.batches import SampleRequest
from graft.batches.sampling import SampleRequests, sample_batch
from graft.errors import GraftError
from graft.fingerprint import fingerprint_hash
from graft.levels import statistics
from graft.levels.search_settings import AGAIN, SURVIVING
from graft.levels.statistics import Estimate
from graft.module import GraftModule
from graft.reward import ask
from graft.reward.code import unidentified
from graft.state import Condition, State, cat, move, size, take

if TYPE_CHECKING:
    from graft.rollouts import Rollouts

T = TypeVar("T")
NAME = "levels.json"
EXACT = Estimate(1.0, 1.0, 1.0)  # by definition


@dataclass
class Level:
    """What is known of a level; shares and distances with 95 % intervals, None where there is none.

    Attributes:
        level: u.
        time: The process's own t.
        log_snr: In nats; None at level 0, where it is infinite.
        reward_r2: ρ²(u), the share of the reward's variance within conditions that x_u has decided, by the fit.
        predicted_retention: The share of the accepted gain that survives a hand-over, by the fit.
        measured_retention: The same, by re-rolling accepted states with the reference; it bounds P-GRAFT.
        score_gap: E‖score − score of the prior's Gaussian‖²: how much of the law there is to learn.
        trained_fraction: Share of the levels to train, 1 − u.
        denoiser_calls: That asking about this level took.
        reward_calls: Likewise.
    """

    level: float
    time: float
    log_snr: "float | None"
    reward_r2: "Estimate | None"
    predicted_retention: "Estimate | None"
    measured_retention: "Estimate | None"
    score_gap: "Estimate | None"
    trained_fraction: float
    denoiser_calls: int = 0
    reward_calls: int = 0

    @property
    def retention(self) -> "Estimate | None":
        """By re-rolling where there is that, else by the fit."""
        return self.measured_retention if self.measured_retention is not None else self.predicted_retention


@dataclass
class Analysis:
    """What ``levels.json`` holds.

    Attributes:
        level: The one to choose.
        reason: In a sentence.
        levels: Each one's evidence, ascending, level 0 first.
        stochastic: The sampler draws noise; else x_u decides everything and shares are 1 by definition.
        draws: Of the reference.
        accepted: Of them.
        resampled: States re-rolled from each level.
        failed_rewards: Of all reward calls.
        reward: Mean of the draws; None where none was scored.
        accepted_reward: More, by the condition-matched accepted gain.
        rule: Of acceptance.
        denoiser_calls: In all.
        reward_calls: In all.
        origin: What it depends on.
    """

    level: float
    reason: str
    levels: list[Level]
    stochastic: bool
    draws: int
    accepted: "int | None"
    resampled: int
    failed_rewards: int
    reward: "float | None"
    accepted_reward: "float | None"
    rule: str
    denoiser_calls: int
    reward_calls: int
    origin: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Keep it in a run's folder."""
        files.write_json(folder / NAME, _plain(asdict(self)))

    @classmethod
    def read(cls, folder: Path, origin: "dict[str, Any] | None" = None) -> "Analysis":
        """What `write` kept.

        Raises:
            GraftError: It is damaged, or of another origin than the one given.
        """
        path = folder / NAME
        try:
            content = plain_json.parse(path.read_text(encoding="utf-8-sig"))
            levels = [Level(**{k: _estimate(v) for k, v in level.items()}) for level in content.pop("levels")]
            found = cls(levels=levels, **content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise GraftError(f"{path} is damaged ({error}): remove it, and the levels are compared again") from None
        if origin is not None and found.origin != origin:
            differing = [key for key in origin if found.origin.get(key) != origin[key]]
            raise GraftError(
                f"{path} compares levels with another {' and '.join(differing) or 'origin'}: choose another --run_dir, "
                "or remove the file"
            )
        return found

    def account(self) -> dict[str, Any]:
        """For ``summary.json``."""
        names = ("level", "reason", "draws", "resampled", "failed_rewards", "denoiser_calls", "reward_calls")
        return {name: getattr(self, name) for name in names}


def choose_level_if_auto(data: "Rollouts") -> None:
    """Where the model's level is ``auto``: compare levels, unless the run's folder has that already, and fix the level.

    Called before each round, by `Rollouts`. The folder says what was chosen, so that a resumed run goes on with it.
    """
    module = data.module
    if module.level_setting != "auto":
        return
    if data.run_dir is None:
        raise GraftError("Rollouts needs run_dir, the folder in which the choice of the level is kept")
    assert data.trainer is not None
    if (data.run_dir / NAME).exists():
        module.level = Analysis.read(data.run_dir, origin(data)).level
        return
    found = search_levels(data)
    if data.trainer.is_global_zero:
        from graft.levels import show  # matplotlib takes a second

        show.write(found, data.run_dir)
        print(f"graft: {found.reason}", flush=True)
    data.trainer.strategy.barrier()
    module.level = found.level


def origin(data: "Rollouts") -> dict[str, Any]:
    """What the analysis depends on."""
    module, plan = data.module, data.level_search
    return {
        "seed": module.seed,
        "steps": module.steps,
        "weights": (module.reference_file or {}).get("sha256"),
        "rule": data.accept.describe(),
        "reward": data.require_reward.name,
        "reward_identity": None if unidentified(data.reward_identity) else fingerprint_hash(data.reward_identity),
        "candidates": list(plan.candidates_on_grid(module.steps)),
        "draws": plan.num_draws(data.draws, data.batch_size, len(plan.candidates_on_grid(module.steps))),
        "batch_size": data.batch_size,
        "resamples": plan.n_bootstrap,
    }


@dataclass
class _Part:
    """What one chunk of draws gives."""

    recorded: dict[float, State]
    condition: Condition
    groups: Tensor
    rewards: list[float]
    keys: list[str]
    guesses: dict[float, list[float]]
    departure: dict[float, Tensor]
    calls: int
    failed: int = 0
    reward_calls: int = 0
    guess_calls: dict[float, int] = field(default_factory=dict)


def search_levels(data: "Rollouts") -> Analysis:
    """Compare the levels on draws of the reference; within a trainer that has set up its strategy.

    Raises:
        GraftError: There is no reference, the reward fails for all draws, or the rule accepts no gain.
    """
    module, about = data.module, origin(data)
    if module.reference_file is None:
        raise GraftError("levels are compared on draws of a reference: give model.weights")
    candidates: tuple[float, ...] = tuple(about["candidates"])
    feasible.check_sampling(module, "data.level_search.draws", about["draws"], 1 + len(candidates))
    stochastic = module.process.stochastic
    requests = SampleRequests(module, about["draws"], data.batch_size, ("levels",), "reference", candidates)
    try:
        parts = _shared(data, "drawing", len(requests), lambda i: _drawn(data, requests[i], i, stochastic))
        departure = {u: torch.cat([part.departure[u] for part in parts]) for u in candidates}
        result = Analysis(
            level=0.0,
            reason="",
            levels=[_level(module, 0.0), *(_level(module, u) for u in candidates)],
            stochastic=stochastic,
            draws=about["draws"],
            accepted=None,
            resampled=0,
            failed_rewards=sum(part.failed for part in parts),
            reward=None,
            accepted_reward=None,
            rule=about["rule"],
            denoiser_calls=sum(part.calls for part in parts),
            reward_calls=sum(part.reward_calls + sum(part.guess_calls.values()) for part in parts),
            origin=about,
        )
        counts = statistics.resamples(about["draws"], data.level_search.n_bootstrap, _generator(data, "resamples"))
        for level in result.levels[1:]:
            level.score_gap = statistics.estimate(partial(statistics.mean, departure[level.level]), counts)
            level.denoiser_calls += about["draws"]
            level.reward_calls += sum(part.guess_calls.get(level.level, 0) for part in parts)
        if stochastic:
            _shares(data, parts, result, counts)
    finally:
        data.require_reward.teardown()
    result.level, result.reason = select_level(result.levels, stochastic)
    return result


def select_level(levels: Sequence[Level], stochastic: bool) -> tuple[float, str]:
    """(level, why, in a sentence): the largest level whose surviving share is at least `SURVIVING`."""
    candidates = [level for level in levels if level.level > 0]
    names = ", ".join(f"{level.level:.4g}" for level in candidates)
    if not stochastic:
        best = candidates[-1]
        return best.level, (
            f"level {best.level:.4g}: the sampler draws no noise, so the state at any level decides the sample and all "
            f"of the gain survives by definition; only how hard the law is to learn counts, and of {names} the largest "
            "leaves least to learn"
        )
    kept = [level for level in candidates if _value(level.retention) >= SURVIVING]
    if kept:
        best = kept[-1]
        return best.level, (
            f"level {best.level:.4g}: of {names} the largest at which at least {SURVIVING:g} of the accepted gain "
            f"survives the hand-over, {_how(best)}"
        )
    best = max(candidates, key=lambda level: _value(level.retention))
    return 0.0, (
        f"level 0: at none of {names} does {SURVIVING:g} of the accepted gain survive the hand-over (most at "
        f"{best.level:.4g}, {_how(best)}), so the whole network is tuned (GRAFT)"
    )


def _how(level: Level) -> str:
    share = level.retention
    assert share is not None
    way = "as re-rolled" if level.measured_retention is not None else "as the fit predicts"
    return f"{way}: {share.value:.2f} (95 % interval {share.low:.2f} to {share.high:.2f})"


def _value(share: "Estimate | None") -> float:
    return -math.inf if share is None or math.isnan(share.value) else share.value


def _level(module: GraftModule, level: float) -> Level:
    """With what is so by definition: at level 0, and anywhere if no noise is drawn below, x_u decides the sample."""
    share = EXACT if level == 0 or not module.process.stochastic else None
    snr = float(module.process.log_snr(level)) if level > 0 else math.inf
    log_snr = snr if math.isfinite(snr) else None
    return Level(level, float(module.process.time(level)), log_snr, share, share, None, None, 1 - level)


def _drawn(data: "Rollouts", request: SampleRequest, index: int, scored: bool) -> _Part:
    """Draw a chunk with the estimates at each level, and score both."""
    module, trainer = data.module, data.trainer
    assert trainer is not None
    drawn = sample_batch(trainer, replace(request, predict_x0=True), index)
    condition = request.condition
    recorded = {u: move(state, "cpu") for u, state in drawn.states.items()}
    guessed = {u: move(state, "cpu") for u, state in drawn.x0_predictions.items()}
    part = _Part(
        recorded=recorded,
        condition=condition,
        groups=module.group(condition).cpu(),
        rewards=[],
        keys=[],
        guesses={},
        departure={u: module.process.score_gap(guessed[u], recorded[u], u, condition) for u in recorded},
        calls=drawn.denoiser_calls * size(condition),
    )
    if scored:
        items = module.decode(move(drawn.state, "cpu"), condition)
        part.keys = [module.key(item) for item in items] if data.accept.deduplicate else []
        part.rewards, part.failed, part.reward_calls = _scored(data, items)
        for u, state in guessed.items():
            # that an estimate cannot be scored is no failure of the reward: many a blurred object has none
            part.guesses[u], _, part.guess_calls[u] = _scored(data, module.decode(state, condition))
    return part


def _scored(data: "Rollouts", items: list[Any]) -> tuple[list[float], int, int]:
    """(rewards, number of failures, number of reward calls)."""
    scores = ask(data.require_reward, items)
    return scores.values, len(scores.failures), scores.asked


def _shares(data: "Rollouts", parts: list[_Part], result: Analysis, counts: Tensor) -> None:
    """Fill in what is decided and what survives, and re-roll."""
    rewards = torch.tensor([r for part in parts for r in part.rewards], dtype=torch.float64)
    groups = torch.cat([part.groups for part in parts])
    keys = [key for part in parts for key in part.keys]
    chosen = data.accept(
        rewards if data.require_reward.higher_is_better else -rewards, groups, keys, _generator(data, "accept")
    )
    usable = ~rewards.isnan()
    place = usable.cumsum(0) - 1  # of a usable draw among them
    index, weight = place[chosen.index], chosen.weight
    r, g, c = rewards[usable], groups[usable], counts[:, usable]
    fold = statistics.folds(len(r), _generator(data, "folds"))
    ones = torch.ones(1, len(r), dtype=torch.float64)
    gain = float(statistics.gain(r, g, index, weight, ones)[0])
    if not (gain if data.require_reward.higher_is_better else -gain) > 1e-9 * float(r.abs().max()):
        raise GraftError(
            f"the rule '{data.accept.describe()}' accepts no gain in {data.require_reward.name} on {len(r)} draws of "
            "the "
            "reference, so no share of it can survive: give model.level a number"
        )
    result.accepted, result.reward = len(index), float(r.mean())
    result.accepted_reward = result.reward + gain
    states = _Accepted(parts, chosen, result.draws // AGAIN, _generator(data, "again"))
    result.resampled = len(states.rows)
    for level in result.levels[1:]:
        u = level.level
        guesses = torch.tensor([v for part in parts for v in part.guesses[u]], dtype=torch.float64)[usable]
        again, calls, failed, asked = _again(data, states, u)
        level.reward_r2 = statistics.estimate(partial(statistics.decided, r, guesses, g, fold), c)
        level.predicted_retention = statistics.estimate(
            partial(statistics.predicted, r, guesses, g, fold, index, weight), c
        )
        found = statistics.estimate(partial(statistics.measured, r, again[usable], g, index, weight), c)
        level.measured_retention = None if math.isnan(found.value) else found
        level.denoiser_calls += calls
        level.reward_calls += asked
        result.denoiser_calls += calls
        result.reward_calls += asked
        result.failed_rewards += failed


class _Accepted:
    """The accepted draws that are re-rolled: all, each as often, if that many may be; else a random choice of them.

    Attributes:
        rows: (R,) draws, each as often as it is re-rolled.
        draws: How many draws there are.
    """

    def __init__(self, parts: list[_Part], chosen: Selection, most: int, generator: "torch.Generator") -> None:
        self.parts = parts
        self.draws = sum(size(part.condition) for part in parts)
        most = max(1, most)
        order = chosen.index[torch.randperm(len(chosen.index), generator=generator)[:most]]
        self.rows = order.sort().values.repeat_interleave(max(1, most // len(chosen.index)))

    def request(self, level: float, rows: Tensor, purpose: tuple["int | str", ...]) -> SampleRequest:
        """To go on from their states at ``level``, with fresh noise."""
        start = take(cat([part.recorded[level] for part in self.parts]), rows)
        condition = take(cat([part.condition for part in self.parts]), rows)
        assert isinstance(condition, dict)
        return SampleRequest(condition, purpose, "reference", start=level, state=start)


def _again(data: "Rollouts", states: _Accepted, level: float) -> tuple[Tensor, int, int, int]:
    """Re-roll the accepted draws from a level.

    Returns:
        (n,) mean reward of each draw, NaN where none was re-rolled; denoiser calls; failed rewards; reward calls.
    """
    rows = states.rows
    chunks = [rows[i : i + data.batch_size] for i in range(0, len(rows), data.batch_size)]

    def one(index: int) -> tuple[list[float], int, int, int]:
        assert data.trainer is not None
        request = states.request(level, chunks[index], ("levels", "again", repr(level), index))
        drawn = sample_batch(data.trainer, request, index)
        items = data.module.decode(move(drawn.state, "cpu"), request.condition)
        rewards, failed, asked = _scored(data, items)
        return rewards, drawn.denoiser_calls * len(items), failed, asked

    parts = _shared(data, f"re-rolling from {level:.4g}", len(chunks), one)
    rewards = torch.tensor([r for part, *_ in parts for r in part], dtype=torch.float64)
    known = ~rewards.isnan()
    total, number = torch.zeros(2, states.draws, dtype=torch.float64)
    total.index_add_(0, states.rows[known], rewards[known])
    number.index_add_(0, states.rows[known], torch.ones(int(known.sum()), dtype=torch.float64))
    calls, failures, asked = (sum(each) for each in zip(*(part[1:] for part in parts), strict=True))
    return total / number, calls, failures, asked


def _shared(data: "Rollouts", what: str, count: int, work: Callable[[int], T]) -> list[T]:
    """``work`` of each chunk, done by one of the processes each and known to all of them."""
    assert data.trainer is not None
    trainer = data.trainer
    rank, world = trainer.global_rank, trainer.world_size
    with distributed.shared_errors(trainer):
        mine = {index: work(index) for index in _bar(data, what, range(rank, count, world))}
    if world > 1:
        everyone: list[dict[int, T]] = [{} for _ in range(world)]
        torch.distributed.all_gather_object(everyone, mine)
        mine = {index: part for theirs in everyone for index, part in theirs.items()}
    return [mine[index] for index in range(count)]


def _bar(data: "Rollouts", what: str, chunks: range) -> Iterator[int]:
    trainer = data.trainer
    assert trainer is not None
    quiet = trainer.progress_bar_callback is None or not trainer.is_global_zero
    yield from tqdm(chunks, desc=f"levels: {what}", unit="chunk", disable=quiet, mininterval=0.5)


def _generator(data: "Rollouts", what: str) -> torch.Generator:
    return seeding.make_generator(data.seed, "levels", what)


def _plain(value: Any) -> Any:
    """As JSON has it: None for NaN."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _estimate(value: Any) -> Any:
    """The inverse, of a field of `Level`."""
    if not isinstance(value, dict):
        return value
    return Estimate(**{key: math.nan if inner is None else inner for key, inner in value.items()})
