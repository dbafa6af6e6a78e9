"""One stateless loop for sampling, hand-over and inversion: `run` takes a state through stages."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from graft.errors import GraftError
from graft.finite import NotFiniteError, extremes
from graft.process import Model, Process
from graft.solvers import Euler, Solver
from graft.state import Condition, State

EULER = Euler()


@dataclass(frozen=True)
class Stage:
    """A stretch of the clock and who walks it: from level ``start`` to level ``stop`` (upwards it inverts).

    ``steps`` is for a stage with a clock of its own, such as a corrector's: the steps of the whole of that clock.
    ``solver`` makes the steps; the process's own (Euler's) if not given.
    """

    process: Process
    model: Model
    start: float = 1.0
    stop: float = 0.0
    steps: "int | None" = None
    solver: Solver = EULER


@dataclass
class Trajectory:
    """What `run` gives: the last state, the states at the levels asked for, the number of denoiser calls a sample.

    ``estimates`` is for who asks the network for E[x_0 | x_u] at the recorded states.
    """

    state: State
    states: dict[float, State] = field(default_factory=dict)
    denoiser_calls: int = 0
    x0_predictions: dict[float, State] = field(default_factory=dict)


def level_grid(steps: int) -> list[float]:
    """The levels of a sampler of so many steps, 1 to 0."""
    return [(steps - i) / steps for i in range(steps + 1)]


def nearest_level(level: float, steps: int) -> float:
    """The level of the grid that is nearest to ``level``."""
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
    """Take a state through the stages, one after the other.

    Args:
        stages: Each begins with the state with which the one before ended; a hand-over is two stages on one clock.
        condition: One row for each sample.
        steps: Steps of the whole clock; a stage from 1 to 1/4 takes three quarters of them.
        record: Levels of that clock whose states are kept (of the last stage that passes them; a stage with a clock of
            its own passes none); nothing else is, so memory does not grow with the steps.
        generator: For the prior and the steps.
        state: Where to start; drawn from the first process's prior if not given.
        progress: Called after every step.
        repeats: Take each step down that clock, but the last, so often, noising its outcome back in between
            (resampling, Lugmayr et al. 2022): for models that are told what a part of the sample is.
        strict: Raise if a sample becomes NaN or infinite; else such samples are returned as they are.

    Raises:
        GraftError: A stage's end, or a level to record, lies between two steps.
        NotFiniteError: A sample is not finite.
        InversionError: A stage goes upwards and its process cannot be inverted.
    """
    wanted = {_index(level, steps): level for level in record}
    if state is None:
        if stages[0].start != 1.0:
            raise GraftError(f"the first stage starts at level {stages[0].start:g}: give the state it starts from")
        state = stages[0].process.prior(condition, generator)
    trajectory = Trajectory(state)
    seen: list[tuple[str, Tensor]] = [("at the start", _finite(state))]
    for stage in stages:
        model = _counted(stage.model, trajectory)
        own, kept = (steps, wanted) if stage.steps is None else (stage.steps, {})
        start, stop = _index(stage.start, own), _index(stage.stop, own)
        if start in kept:
            trajectory.states[kept[start]] = state
        direction = 1 if stop > start else -1
        for i in range(start, stop, direction):
            following = i + direction
            for _ in range(repeats - 1 if direction < 0 < following and stage.steps is None else 0):
                state = stage.solver.step(stage.process, model, state, i / own, following / own, condition, generator)
                state = stage.process.corrupt(state, i / own, following / own, condition, generator)
            state = stage.solver.step(stage.process, model, state, i / own, following / own, condition, generator)
            if following in kept:
                trajectory.states[kept[following]] = state
            if strict:  # stays on the device until the end
                seen.append((f"from level {following / own:.4g} on", _finite(state)))
            if progress is not None:
                progress()
    trajectory.state = state
    if strict:
        _require_finite(state, seen)
    return trajectory


ACTIONS = {
    "reference": "check model.weights and model.process",
    "tuned": "start again from earlier weights with a lower model.learning_rate",
    "current": "start again from earlier weights with a lower model.learning_rate",
}


@contextmanager
def explained(weights: str) -> Iterator[None]:
    """Add to the error of samples that are not finite which network drew them and what to do.

    Args:
        weights: ``reference``, ``tuned`` or ``current``.
    """
    try:
        yield
    except NotFiniteError as error:
        network = "reference" if weights == "reference" else "tuned network"
        raise NotFiniteError(f"{error}, drawn by the {network}: {ACTIONS[weights]}") from None


def _finite(state: State) -> Tensor:
    """Return a bool on the device of the state: it holds neither NaN nor infinity."""
    fields = [state] if isinstance(state, Tensor) else [*state.values()]
    return torch.cat([extremes(each) for each in fields]).isfinite().all()


def _require_finite(state: State, seen: "list[tuple[str, Tensor]]") -> None:
    """Raise if a state that was seen on the way is not finite."""
    finite = torch.stack([each for _, each in seen]).tolist()
    if all(finite):
        return
    fields = [state] if isinstance(state, Tensor) else [*state.values()]
    rows = torch.stack([each.reshape(len(each), -1).isfinite().all(1).cpu() for each in fields]).all(0)
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
