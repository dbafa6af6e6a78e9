"""Carrying data back to the noise that a frozen flow makes them of, and judging each sample by what comes of it."""

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from graft.inversion.base import FixedPointSolver, flatten_state
from graft.inversion.counted import Counted
from graft.process.base import Model, Process
from graft.sampler import Stage, run_stages
from graft.solvers import Solver
from graft.state import Condition, State, apply, size, take

PROBE = 1e-2  # of a sample's own root mean square: the perturbation whose growth is the noise gain


@dataclass
class DeterministicSampler:
    """A deterministic sampler: what is inverted.

    Attributes:
        process: Of the flow.
        model: Its frozen network.
        solver: Of its steps.
        steps: From level 1 to 0.
    """

    process: Process
    model: Model
    solver: Solver
    steps: int

    def sample(self, noise: State, condition: Condition) -> State:
        """What the flow makes of ``noise``."""
        stage = Stage(self.process, self.model, solver=self.solver)
        return run_stages([stage], condition, self.steps, state=noise, strict=False).state


@dataclass
class StepStatistics:
    """One step of the inversion.

    Attributes:
        level: From which it went up.
        asked: Samples that came so far.
        missed: Of them, those whose inverse was not found.
        evaluations: Of the sampler's step, in all, without the probes'.
        residual: The worst that was found.
    """

    level: float
    asked: int = 0
    missed: int = 0
    evaluations: int = 0
    residual: float = 0.0


@dataclass
class InversionResult:
    """What came of each of B samples.

    Attributes:
        noise: (B, ...) that the flow makes them of; where it was not found, the state at which it stopped.
        solved: (B,) bool: every step was inverted.
        stopped: (B,) level of the step that was not; 1 where all were.
        round_trip: (B,) root mean square of the difference between the sample and what the flow makes of the noise;
            infinite where there is none.
        noise_gain: (B,) noise gain: by how much a small perturbation of the sample grew on its way; NaN where not
            known.
        evaluations: (B,) of the sampler's step, with the perturbation's and without the round trip's.
        calls: Network calls, each for one sample, that all of it took, the round trips included; a call with a
            derivative along a direction counts as `graft.inversion.base.DERIVATIVE`.
        steps: Of all samples, from 0 upwards.
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
    """Carry samples back to level 1.

    The steps are undone one after the other. A sample whose step was not inverted goes no further; what is found is
    checked by taking the flow forward from it, and a second copy of each sample, moved by `PROBE` of its size in a
    random direction, shows how much noise the inversion adds to what it is given.

    Args:
        flow: The frozen flow.
        data: (B, ...) at level 0.
        condition: Of each.
        method: That solves a step.
        generator: Of the directions.

    Raises:
        InversionError: The flow's steps draw noise.
    """
    model = Counted(flow.model)
    flow = replace(flow, model=model)
    count, like = size(data), flatten_state(data)
    direction = flow.process.noise(data, condition, generator)
    scale = PROBE * _rms(like) / _rms(flatten_state(direction)).clamp(min=torch.finfo(like.dtype).tiny)
    noise: State = apply(torch.clone, data)
    probe = apply(lambda x, d: x + scale.reshape(-1, *[1] * (x.ndim - 1)) * d, data, direction)
    rows = torch.arange(count, device=like.device)
    stopped = like.new_ones(count)
    followed = torch.ones(count, dtype=torch.bool, device=like.device)
    evaluations = torch.zeros(count, dtype=torch.long, device=like.device)
    steps = [StepStatistics(i / flow.steps) for i in range(flow.steps)]
    for i, step in enumerate(steps):
        if not len(rows):
            break
        given = take(condition, rows)
        assert isinstance(given, dict)
        levels = (i / flow.steps, (i + 1) / flow.steps)
        below, beside = take(noise, rows), take(probe, rows)
        found = flow.solver.invert_step(flow.process, flow.model, below, *levels, given, method)
        guess = apply(lambda x, y, z: x + (z - y), found.state, below, beside)
        moved = flow.solver.invert_step(flow.process, flow.model, beside, *levels, given, method, guess)
        apply(lambda whole, part, rows=rows: whole.index_copy_(0, rows, part), noise, found.state)
        apply(lambda whole, part, rows=rows: whole.index_copy_(0, rows, part), probe, moved.state)
        evaluations[rows] += found.calls + moved.calls
        followed[rows] &= moved.solved
        stopped[rows[~found.solved]] = levels[0]
        step.asked, step.missed = len(rows), int((~found.solved).sum())
        step.evaluations, step.residual = int(found.calls.sum()), float(found.residual.max())
        rows = rows[found.solved]
    solved = stopped == 1
    gain = torch.where(
        solved & followed, _rms(flatten_state(probe) - flatten_state(noise)) / (PROBE * _rms(like)), torch.nan
    )
    round_trip = torch.full_like(stopped, torch.inf)
    if len(rows):
        given = take(condition, rows)
        assert isinstance(given, dict)
        again = flatten_state(flow.sample(take(noise, rows), given))
        round_trip[rows] = _rms(again - like[rows])
    round_trip = torch.where(round_trip.isnan(), torch.inf, round_trip)
    return InversionResult(noise, solved, stopped, round_trip, gain, evaluations, model.calls, steps)


@torch.no_grad()
def recovery_error(
    flow: DeterministicSampler, condition: Condition, method: FixedPointSolver, generator: "Generator | None" = None
) -> tuple[Tensor, InversionResult]:
    """Known noise, made into samples and recovered from them: a certificate that the round trip alone is not.

    A sample may have several noises that it could be of; the round trip is content with any.

    Returns:
        (B,) root mean square error of the recovered noise, relative to that of the noise, infinite where none was
        found; and what came of the samples, of which the calls include those that made them.
    """
    noise = flow.process.prior(condition, generator)
    model = Counted(flow.model)
    data = replace(flow, model=model).sample(noise, condition)
    found = invert(flow, data, condition, method, generator)
    found.calls += model.calls
    error = _rms(flatten_state(found.noise) - flatten_state(noise)) / _rms(flatten_state(noise))
    return torch.where(found.solved, error, torch.inf), found


def _rms(x: Tensor) -> Tensor:
    """(B,) of (B, D)."""
    return x.square().mean(1).sqrt()
