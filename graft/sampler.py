"""One stateless loop for sampling, hand-over and inversion: `run_stages`."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from graft.core.finite import NotFiniteError, extremes
from graft.core.interval import Interval
from graft.core.state import Condition, State, fields_of
from graft.errors import GraftError
from graft.process import Model, Process
from graft.solvers import BoundModel, Euler, Solver

EULER = Euler()
WHOLE = Interval()


@dataclass(frozen=True)
class Stage:
    """A part of the clock and the network that samples it.

    Attributes:
        process: Process of the stage.
        model: Network of the stage.
        interval: The part of the clock.
        steps: Number of steps of a clock of the stage's own, such as a corrector's; None for the common clock.
        solver: Solver of the steps.
        upwards: True for a stage from the lower to the upper end, which inverts the steps down.
        context: Function that returns the context of the stage's steps, in which the network is set up once for all of
            them.
    """

    process: Process
    model: Model
    interval: Interval = WHOLE
    steps: "int | None" = None
    solver: Solver = EULER
    upwards: bool = False
    context: Callable[[], AbstractContextManager[object]] = nullcontext

    @property
    def on_common_clock(self) -> bool:
        """True if the stage has no clock of its own."""
        return self.steps is None

    @property
    def start(self) -> float:
        """Level at which the stage begins."""
        return self.interval.low if self.upwards else self.interval.high

    @property
    def stop(self) -> float:
        """Level at which the stage ends."""
        return self.interval.high if self.upwards else self.interval.low


@dataclass
class Trajectory:
    """The result of `run_stages`.

    Attributes:
        state: Last state, (B, ...).
        states: Recorded states by level.
        denoiser_calls: Number of denoiser calls of each sample.
        x0_predictions: Estimates of E[x_0 | x_u] at recorded states by level; the caller fills them in.
    """

    state: State
    states: dict[float, State] = field(default_factory=dict)
    denoiser_calls: int = 0
    x0_predictions: dict[float, State] = field(default_factory=dict)


def level_grid(steps: int) -> list[float]:
    """Return the ``steps`` + 1 levels of a sampler, from 1 to 0."""
    return [(steps - i) / steps for i in range(steps + 1)]


def step_of(level: float, steps: int) -> int:
    """Return the index of a level in `level_grid`: the number of sampler steps from the prior to the level.

    Raises:
        ValueError: The level is not on the grid.
    """
    return level_grid(steps).index(level)


def nearest_level(level: float, steps: int) -> float:
    """Return the level of `level_grid` that is nearest to ``level``."""
    return round(level * steps) / steps


@torch.no_grad()
def run_stages(
    stages: Sequence[Stage],
    condition: Condition,
    steps: int,
    record: Iterable[float] = (),
    generator: "Generator | None" = None,
    state: "State | None" = None,
    progress: "Callable[[], object] | None" = None,
    repeats: int = 1,
    strict: bool = True,
) -> Trajectory:
    """Return the trajectory of a state through the stages, one after the other.

    Args:
        stages: Stages; each begins with the last state of the one before. A hand-over is two stages on one clock.
        condition: Condition, one row for each sample.
        steps: Number of steps of the whole clock; a stage from 1 to 1/4 takes three quarters of them.
        record: Levels of that clock at which states are kept. The last stage that passes a level counts; a stage with a
            clock of its own passes none. Other states are not kept, so memory does not grow with the steps.
        generator: Generator of the prior and the steps.
        state: First state; sampled from the first process's prior if not given.
        progress: Function that is called after every step.
        repeats: Number of times that each step down that clock, except the last, is taken. Its outcome is noised back
            in between (resampling, Lugmayr et al. 2022), so that a fixed part and the rest of a sample fit.
        strict: Raise if a sample becomes NaN or infinite; if False, such samples are returned as they are.

    Raises:
        GraftError: An end of a stage, or a level to record, lies between two steps.
        NotFiniteError: A sample is not finite.
        InversionError: A stage goes upwards and its process cannot be inverted.
    """
    wanted = {_index(level, steps): level for level in record}
    if state is None:
        if stages[0].start != 1.0:
            raise GraftError(
                f"the first stage starts at level {stages[0].start:g}; without a state it must start at 1. Give `state`"
            )
        state = stages[0].process.prior(condition, generator)
    trajectory = Trajectory(state)
    seen: list[tuple[str, Tensor]] = [("at the start", _finite(state))]
    for stage in stages:
        model = BoundModel(stage.process, _counted(stage.model, trajectory), condition)
        own, kept = (steps, wanted) if stage.steps is None else (stage.steps, {})
        start, stop = _index(stage.start, own), _index(stage.stop, own)
        if start in kept:
            trajectory.states[kept[start]] = state
        direction = 1 if stage.upwards else -1
        with stage.context():
            for i in range(start, stop, direction):
                following = i + direction
                for _ in range(repeats - 1 if direction < 0 < following and stage.on_common_clock else 0):
                    state = stage.solver.step(model, state, i / own, following / own, generator)
                    state = stage.process.corrupt(state, i / own, following / own, condition, generator)
                state = stage.solver.step(model, state, i / own, following / own, generator)
                if following in kept:
                    trajectory.states[kept[following]] = state
                if strict:  # the result stays on the device until the end, so no step waits for it
                    seen.append((f"from level {following / own:.4g} on", _finite(state)))
                if progress is not None:
                    progress()
    trajectory.state = state
    if strict:
        _require_finite(state, seen)
    return trajectory


ACTIONS = {
    "reference": "check model.weights and model.process",
    "tuned": "start again from earlier weights with a lower model.optimizer.lr",
    "current": "start again from earlier weights with a lower model.optimizer.lr",
}


@contextmanager
def explain_not_finite(weights: str) -> Iterator[None]:
    """Add the network and an action to the error of samples that are not finite.

    Args:
        weights: Weights of the sampler: ``reference``, ``tuned`` or ``current``.

    Raises:
        NotFiniteError: The block raised it; the message names the network.
    """
    try:
        yield
    except NotFiniteError as error:
        network = "reference" if weights == "reference" else "tuned network"
        raise NotFiniteError(f"{error}, drawn by the {network}: {ACTIONS[weights]}") from None


def _finite(state: State) -> Tensor:
    """Return a bool on the device of the state: True if it holds neither NaN nor infinity."""
    return torch.cat([extremes(field) for field in fields_of(state)]).isfinite().all()


def _require_finite(state: State, seen: "list[tuple[str, Tensor]]") -> None:
    """Raise NotFiniteError if one of the states ``seen`` is not finite."""
    finite = torch.stack([each for _, each in seen]).tolist()
    if all(finite):
        return
    rows = torch.stack([each.reshape(len(each), -1).isfinite().all(1).cpu() for each in fields_of(state)]).all(0)
    count = int((~rows).sum()) or "some"
    raise NotFiniteError(f"{count} of {len(rows)} samples are not finite {seen[finite.index(False)][0]}")


def _counted(model: Model, trajectory: Trajectory) -> Model:
    def counted(state: State, time: Tensor, condition: Condition) -> State:
        trajectory.denoiser_calls += 1
        return model(state, time, condition)

    return counted


def _index(level: float, steps: int) -> int:
    index = round(level * steps)
    if not 0 <= level <= 1 or abs(index - level * steps) > 1e-6:
        raise GraftError(f"level {level:g} is not one of the {steps} steps: take a multiple of 1/{steps} in [0, 1]")
    return index
