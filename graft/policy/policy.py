"""Policy: the tuned and the reference network as one sampler, and the denoising loss of the tuned one."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from graft.core import limits, seeding
from graft.core.datatypes import SampleRequest, TrainingBatch, Weights
from graft.core.interval import Interval
from graft.core.state import Condition, State, repeat_rows, size, take
from graft.domain import Domain
from graft.errors import GraftError
from graft.network import AutoBatchSize, LoRA, eval_mode
from graft.network.corrector import NoiseCorrector
from graft.network.row_threads import in_row_threads
from graft.policy.interval import check_corrector_interval, tuned_interval, upper_level_on_grid
from graft.policy.networks import TunedNetwork
from graft.policy.tuning import Tuning
from graft.process import Model, Process, check_output
from graft.sampler import Stage, Trajectory, explain_not_finite, run_stages
from graft.solvers import Euler, Solver


class Policy(TunedNetwork):
    """The network that is tuned, the frozen reference, and the sampler that takes a state through both.

    The tuned network samples within an interval of the clock; the reference samples above and below it. With a
    corrector the reference samples the whole clock, and the corrector makes the noise that it starts from.

    Args:
        backbone: The network with the reference's weights, ``(state, time (B,), condition) -> output``.
        process: The forward process and the sampler's step.
        steps: Number of sampler steps.
        level: The level at which the tuned network hands over to the reference; ``auto``: it is set later.
        upper_level: The level at which the tuned network takes over from the reference.
        solver: The solver of the sampler's steps; Euler's if not given.
        corrector: The flow that shapes the noise of a deterministic sampler.
        lora: Settings of the trained adapters; None to train the whole network.
        tuning: Settings of training; `Tuning` if not given.
        reference_file: ``path`` and ``sha256`` of the reference's weights; None without a reference.
        in_memory: Weights of the reference, if they were given in memory.
        domain: Domain that constrains outputs of the network and augments training batches; None for no such domain.

    Raises:
        GraftError: A setting is outside its range, or the solver or the corrector does not suit the process.
    """

    def __init__(
        self,
        backbone: nn.Module,
        process: Process,
        steps: int = 24,
        level: 'float | Literal["auto"]' = 0.0,
        upper_level: float = 1.0,
        solver: "Solver | None" = None,
        corrector: "NoiseCorrector | None" = None,
        lora: "LoRA | None" = None,
        tuning: "Tuning | None" = None,
        reference_file: "dict[str, str] | None" = None,
        in_memory: "dict[str, Tensor] | None" = None,
        domain: "Domain | None" = None,
    ) -> None:
        limits.check("model.steps", steps, 1, limits.MOST_STEPS)
        if corrector is not None and (reference_file is None or lora is not None):
            raise GraftError("model.corrector corrects a frozen reference: give model.weights, and no model.lora")
        if isinstance(level, str) and level != "auto":
            raise GraftError(f"model.level is {level!r}, but a level is a number in [0, 1), or 'auto'")
        if corrector is not None:
            check_corrector_interval(level, upper_level)
        if lora is not None and reference_file is None:
            raise GraftError("model.lora adapts a reference: give model.weights")
        solver = solver if solver is not None else Euler()
        solver.check(process)
        if corrector is not None:
            corrector.check_compatible(process)  # may make the corrector's network
        tuning = tuning if tuning is not None else Tuning()
        trained = corrector.backbone if corrector is not None else None
        super().__init__(backbone, trained, lora, tuning, reference_file, in_memory)
        self.process, self.steps, self.solver, self.corrector = process, steps, solver, corrector
        self.upper_level = upper_level_on_grid(upper_level, steps)
        self._interval: Interval | None = None
        if level != "auto":
            self.set_level(float(level))
        self.timestep_sampler = tuning.timestep_sampler
        self.auto_batch_size = AutoBatchSize()
        self._domain = (domain,)  # in a tuple, so that torch does not take a module for a part of this one

    # Interval

    @property
    def interval(self) -> Interval:
        """The part of the clock that the tuned network samples; for a corrector, the whole of its own clock.

        Raises:
            GraftError: ``model.level`` is ``auto``, and no level has been chosen yet.
        """
        if self._interval is None:
            raise GraftError(
                "model.level is 'auto' and no level has been chosen yet: graft fit chooses it before its first round; "
                "give the weights of such a run with --weights, or a number"
            )
        return self._interval

    @property
    def handover_level(self) -> float:
        """u*, the level at which the reference takes over from the tuned network.

        A corrector hands over at level 1: it makes the noise that the reference starts from.
        """
        return self.interval.low if self.corrector is None else 1.0

    def set_level(self, level: float) -> None:
        """Set the level at which the tuned network hands over to the reference.

        Raises:
            GraftError: The level is outside its range.
        """
        self._interval = tuned_interval(level, self.upper_level, self.steps)

    def whole_clock(self) -> AbstractContextManager[None]:
        """Have the tuned network sample from level 1 to 0 within the block, which needs no reference."""
        return self._with_interval(Interval())

    def at_level(self, level: float) -> AbstractContextManager[None]:
        """Have the tuned network hand over at a level within the block.

        Raises:
            GraftError: The level is outside its range.
        """
        return self._with_interval(tuned_interval(level, self.upper_level, self.steps))

    @contextmanager
    def _with_interval(self, interval: Interval) -> Iterator[None]:
        before, self._interval = self._interval, interval
        try:
            yield
        finally:
            self._interval = before

    # Sampling

    @property
    def has_fixed_part(self) -> bool:
        """True if the domain fixes a part of every sample."""
        return self._domain[0] is not None and self._domain[0].has_fixed_part

    @property
    def tuned_stage(self) -> Stage:
        """The stage of the tuned network, or of the corrector, which ends with the states that it learns."""
        if self.corrector is not None:
            own = self.corrector
            return Stage(own.process, self.backbone, self.interval, own.steps, own.solver)
        return Stage(self.process, self.backbone, self.interval, solver=self.solver)

    def sampling_stages(self, weights: Weights) -> list[Stage]:
        """Return the stages of the sampler: the reference, or the tuned network within the reference."""
        whole = Stage(self.process, self.reference_forward, solver=self.solver, context=self.without_adapters)
        if weights == "reference":
            return [whole]
        tuned = self.tuned_stage
        if self.corrector is not None:
            return [tuned, whole]
        above, below = Interval(low=self.interval.high), Interval(high=self.interval.low)
        stages = replace(whole, interval=above), tuned, replace(whole, interval=below)
        return [stage for stage in stages if not stage.interval.is_empty]

    def sample(self, request: SampleRequest, generator: "Generator | None" = None) -> Trajectory:
        """Return the samples that a request asks for.

        Raises:
            NotFiniteError: A sample is not finite.
        """
        stages = self.sampling_stages(request.weights)
        if request.state is not None:  # the state is on the model's clock, after the stage of a corrector
            stages = [
                replace(stage, interval=stage.interval.below(request.start))
                for stage in stages
                if stage.on_common_clock and stage.interval.low < request.start
            ]
        domain, repeats = self._domain[0], 1
        if self._takes_threads:
            stages = [replace(stage, model=in_row_threads(stage.model)) for stage in stages]
        if domain is not None:
            repeats = domain.num_resamples
            if domain.has_fixed_part:
                stages = [_constrained(stage, domain) if stage.on_common_clock else stage for stage in stages]
        stages = [replace(stage, model=self.auto_batch_size(stage.model)) for stage in stages]
        with explain_not_finite(request.weights), self.eval_weights(request.weights):
            drawn = self._run(stages, request, generator, repeats)
            for level, state in drawn.states.items() if request.predict_x0 else ():
                # the stage that samples below that level
                stage = next(stage for stage in stages if stage.on_common_clock and stage.interval.low < level)
                output = stage.process(stage.model, state, level, request.condition)
                drawn.x0_predictions[level] = stage.process.predict_x0(output, state, level, request.condition)
                drawn.denoiser_calls += 1
        return drawn

    def _run(
        self, stages: list[Stage], request: SampleRequest, generator: "Generator | None", repeats: int
    ) -> Trajectory:
        """Return the samples of a request; those of one prefix share the stages above ``upper_level``."""
        each = request.samples_per_prefix
        shared = [stage for stage in stages if each > 1 and stage.interval.low >= self.upper_level]
        if not shared:
            return run_stages(
                stages, request.condition, self.steps, request.record, generator, request.state, None, repeats
            )
        condition = take(request.condition, slice(None, None, each))
        levels = [level for level in request.record if level > self.upper_level]
        prefix = run_stages(shared, condition, self.steps, levels, generator, None, None, repeats)
        levels = [level for level in request.record if level <= self.upper_level]
        state = repeat_rows(prefix.state, each)
        drawn = run_stages(
            stages[len(shared) :], request.condition, self.steps, levels, generator, state, None, repeats
        )
        drawn.states |= {level: repeat_rows(recorded, each) for level, recorded in prefix.states.items()}
        drawn.denoiser_calls += prefix.denoiser_calls
        return drawn

    @property
    def _takes_threads(self) -> bool:
        """True if several threads may call the networks at once.

        They may not with adapters, which a call switches off for the reference, or if ranks share the calls.
        """
        adapted = self.reference is None and self.reference_file is not None
        if adapted or self.compiled or self.auto_batch_size.frozen:
            return False
        return all(getattr(network, "thread_safe", False) for network in self.networks())

    def reference_output(self, state: State, level: Tensor, condition: Condition) -> State:
        """Return the reference's output in evaluation mode, without a gradient."""
        with eval_mode(self.backbone), torch.no_grad():
            return self.process(self.reference_forward, state, level, condition)

    def denoiser_calls(self, weights: Weights) -> int:
        """Return the number of denoiser calls that a sample takes."""
        own = self.corrector if weights != "reference" else None
        calls = self._calls_of_steps(self.steps)
        return calls + (own.solver.denoiser_calls(own.steps) if own is not None else 0)

    def denoiser_calls_of_prefix(self, weights: Weights) -> int:
        """Return the number of denoiser calls above ``upper_level``, which samples of one prefix share."""
        if weights == "reference":
            return 0
        return self._calls_of_steps(self.steps) - self._calls_of_steps(round(self.upper_level * self.steps))

    def _calls_of_steps(self, steps: int) -> int:
        """Return the number of denoiser calls in the last ``steps`` steps of a sampler, with repeated steps."""
        repeats = self._domain[0].num_resamples if self._domain[0] is not None else 1
        calls = self.solver.denoiser_calls(steps)
        if repeats > 1 and steps > 1:
            calls += (repeats - 1) * self.solver.denoiser_calls(steps - 1)
        return calls

    # Training

    def loss(self, batch: TrainingBatch, generator: "Generator | None" = None) -> Tensor:
        """Return the mean weighted denoising loss () of the given states, at `sample_levels`."""
        domain, stage = self._domain[0], self.tuned_stage
        if domain is not None:
            batch = domain.augment(batch, generator)
        level = self.sample_levels(size(batch.state), generator, batch.from_level)
        loss = stage.process.loss(
            stage.model, batch.state, level, batch.from_level, batch.condition, batch.x0_target, generator
        )
        auxiliary = domain.auxiliary_loss(batch, level) if domain is not None else None
        loss = loss if auxiliary is None else loss + auxiliary
        return (loss if batch.weight is None else loss * batch.weight.to(loss)).mean()

    def sample_levels(self, count: int, generator: "Generator | None" = None, from_level: float = 0.0) -> Tensor:
        """Return (count,) levels of the interval above ``from_level``, to train the network at."""
        interval = self.interval.above(from_level)
        even = seeding.stratified_levels(count, interval, generator)
        if self.timestep_sampler is None:
            return even
        return seeding.logit_normal(even, interval, *self.timestep_sampler)


def _constrained(stage: Stage, domain: Domain) -> Stage:
    """Return the stage with the fixed part of the network's output replaced by its given value."""
    inner: Model = stage.model

    def model(state: State, time: Tensor, condition: Condition) -> State:
        return domain.apply_constraint(check_output(inner(state, time, condition), state), condition)

    return replace(stage, model=model)
