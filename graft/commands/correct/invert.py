"""Inversion of data to noise through a frozen flow, with checks of each sample."""

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from graft.core.state import Condition, State, apply, broadcast_to, flatten_state, size, take
from graft.process import Model, Process
from graft.sampler import Stage, run_stages
from graft.solvers import BoundModel, Solver
from graft.solvers.fixed_point import FixedPointSolver
from graft.solvers.fixed_point.counted import CallCounter

PROBE = 1e-2
"""Size of the perturbation that measures the noise gain, relative to a sample's root mean square."""


@dataclass
class DeterministicSampler:
    """A deterministic sampler, which can be inverted.

    Attributes:
        process: Process of the flow.
        model: Frozen network of the flow.
        solver: Solver of the steps.
        steps: Number of steps from level 1 to 0.
    """

    process: Process
    model: Model
    solver: Solver
    steps: int

    def sample(self, noise: State, condition: Condition) -> State:
        """Return the samples (B, ...) at level 0 that the flow generates from ``noise`` (B, ...)."""
        stage = Stage(self.process, self.model, solver=self.solver)
        return run_stages([stage], condition, self.steps, state=noise, strict=False).state


@dataclass
class StepStatistics:
    """One step of the inversion.

    Attributes:
        level: Level from which the step goes up.
        reached: Number of samples that reached the step.
        not_inverted: Number of these samples without an inverse.
        evaluations: Evaluations of the sampler's step by all samples, without those of the perturbed copies.
        residual: Largest residual of a sample.
    """

    level: float
    reached: int = 0
    not_inverted: int = 0
    evaluations: int = 0
    residual: float = 0.0


@dataclass
class InversionResult:
    """The outcome of the inversion of B samples.

    Attributes:
        noise: Recovered noise, (B, ...); for a sample without one, the state at which its inversion stopped.
        solved: True where every step was inverted, (B,) bool.
        stopped: Level of the step without an inverse, (B,); 1 where every step was inverted.
        round_trip: Root mean square difference of the sample and the flow's output for its noise, (B,); infinite
            without a noise.
        noise_gain: Factor by which a small perturbation of the sample grew, (B,); NaN where it is not known.
        evaluations: Evaluations of the sampler's step, (B,), with the perturbed copies, without the round trip.
        calls: Network calls of everything, each for one sample, with the round trips; a call with a derivative along a
            direction counts as `graft.solvers.fixed_point.base.DERIVATIVE`.
        steps: Statistics of the steps, from level 0 up.
    """

    noise: State
    solved: Tensor
    stopped: Tensor
    round_trip: Tensor
    noise_gain: Tensor
    evaluations: Tensor
    calls: int
    steps: list[StepStatistics]


@torch.no_grad()
def invert(
    flow: DeterministicSampler,
    data: State,
    condition: Condition,
    method: FixedPointSolver,
    generator: "Generator | None" = None,
) -> InversionResult:
    """Return the noise of samples at level 1, and the checks of each sample.

    The steps are inverted one after the other. A sample stops at a step without an inverse. The flow is run forward
    from the recovered noise as a check. A second copy of each sample, moved by `PROBE` of its size in a random
    direction, measures how much the inversion amplifies noise.

    Args:
        flow: Frozen flow.
        data: Samples at level 0, (B, ...).
        condition: Condition of each sample.
        method: Solver of the fixed-point equation of a step.
        generator: Generator of the directions.

    Raises:
        InversionError: The flow's steps draw noise.
    """
    counted = CallCounter(flow.model)
    flow = replace(flow, model=counted)
    count, like = size(data), flatten_state(data)
    direction = flow.process.noise(data, condition, generator)
    scale = PROBE * _rms(like) / _rms(flatten_state(direction)).clamp(min=torch.finfo(like.dtype).tiny)
    noise: State = apply(torch.clone, data)
    probe = apply(lambda x, d: x + broadcast_to(scale, x) * d, data, direction)
    rows = torch.arange(count, device=like.device)
    stopped = like.new_ones(count)
    followed = torch.ones(count, dtype=torch.bool, device=like.device)
    evaluations = torch.zeros(count, dtype=torch.long, device=like.device)
    steps = [StepStatistics(i / flow.steps) for i in range(flow.steps)]
    for i, step in enumerate(steps):
        if not len(rows):
            break
        model = BoundModel(flow.process, counted, take(condition, rows))
        levels = (i / flow.steps, (i + 1) / flow.steps)
        below, perturbed = take(noise, rows), take(probe, rows)
        found = flow.solver.invert_step(model, below, *levels, method)
        guess = apply(lambda x, y, z: x + (z - y), found.state, below, perturbed)
        moved = flow.solver.invert_step(model, perturbed, *levels, method, guess)
        apply(lambda whole, part, rows=rows: whole.index_copy_(0, rows, part), noise, found.state)
        apply(lambda whole, part, rows=rows: whole.index_copy_(0, rows, part), probe, moved.state)
        evaluations[rows] += found.calls + moved.calls
        followed[rows] &= moved.solved
        stopped[rows[~found.solved]] = levels[0]
        step.reached, step.not_inverted = len(rows), int((~found.solved).sum())
        step.evaluations, step.residual = int(found.calls.sum()), float(found.residual.max())
        rows = rows[found.solved]
    solved = stopped == 1
    gain = torch.where(
        solved & followed, _rms(flatten_state(probe) - flatten_state(noise)) / (PROBE * _rms(like)), torch.nan
    )
    round_trip = torch.full_like(stopped, torch.inf)
    if len(rows):
        again = flatten_state(flow.sample(take(noise, rows), take(condition, rows)))
        round_trip[rows] = _rms(again - like[rows])
    round_trip = torch.where(round_trip.isnan(), torch.inf, round_trip)
    return InversionResult(noise, solved, stopped, round_trip, gain, evaluations, counted.calls, steps)


@torch.no_grad()
def recovery_error(
    flow: DeterministicSampler, condition: Condition, method: FixedPointSolver, generator: "Generator | None" = None
) -> tuple[Tensor, InversionResult]:
    """Return the (B,) error of noise recovered from samples with known noise, and the inversion.

    The round trip alone is no such check: several noises may give one sample, and each of them passes it.

    Returns:
        Root mean square error of the recovered noise, relative to the noise, (B,), infinite where none was found; and
        the outcome of the inversion. Its calls include those that generated the samples.
    """
    noise = flow.process.prior(condition, generator)
    model = CallCounter(flow.model)
    data = replace(flow, model=model).sample(noise, condition)
    found = invert(flow, data, condition, method, generator)
    found.calls += model.calls
    error = _rms(flatten_state(found.noise) - flatten_state(noise)) / _rms(flatten_state(noise))
    return torch.where(found.solved, error, torch.inf), found


def _rms(x: Tensor) -> Tensor:
    """Return the (B,) root mean square of (B, D)."""
    return x.square().mean(1).sqrt()
