r"""DiffusionNFT: negative-aware fine-tuning on the forward process (Zheng et al. 2025, arXiv 2509.16117).

The network \theta and the old one, which drew, stand for two policies, better and worse than the old one,

.. math:: v^\pm = v_{old} \pm \beta (v_\theta - v_{old}), \qquad
    L = E\big[ r \|v^+ - v\|^2 + (1 - r) \|v^- - v\|^2 \big],

with r in [0, 1] the probability that a draw is a good one. Setting the derivative to 0 where the old network is exact,
E[v | x_t] = v_old, gives

.. math:: v_\theta = v_{old} + \tfrac{1}{\beta} E[(2 r - 1)(v - v_{old}) \mid x_t]
    = v_{old} + \tfrac{2}{\beta}\, \mathrm{Cov}(r, v \mid x_t),

which is their Theorem 3.2. With r linear in the reward, r = 1/2 + A / (2 s) for the advantage A and ``spread`` s, this
is to first order the old law tilted by exp(A / (\beta s)), and exactly that for a Gaussian and a linear reward: \beta s
is a temperature in standard deviations of the reward.

Here everything is said of the network's own predictions (`graft.process.Process.loss_output`), and of estimates of x_0
with ``adaptive``; the loss is the same up to the process's weight of a level.
"""

from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from graft.batches import TrainingBatch
from graft.errors import GraftError
from graft.network import eval_mode
from graft.objectives.advantages import AdvantageTracker
from graft.objectives.base import OnPolicy, ScoredRound
from graft.state import State, apply, size

if TYPE_CHECKING:
    from graft.module import GraftModule
    from graft.rollouts import Rollouts


class DiffusionNFT(OnPolicy):
    """Learn from good and bad draws, noised anew: towards what good ones show, away from what bad ones do.

    Args:
        beta: How far the implicit policies are from the old one: the smaller, the larger a round's step.
        advantage_clip: Advantages are clipped at so many standard deviations, where r is 0 or 1.
        kl_coef: Weight of the squared difference from the reference's estimate.
        adaptive_weighting: Divide each sample's error by its own mean absolute error, held constant (their section
            3.3), instead of weighting levels as the process does.
        decay: The old policy keeps min(decay, rise · round) of itself when a round begins and takes the rest from the
            network; 0 is fully on-policy.
        decay_increment: See ``decay``.
        stat_buffer_size: See `AdvantageTracker`.
        stat_min_count: See `AdvantageTracker`.
    """

    begun: Tensor

    def __init__(
        self,
        beta: float = 1.0,
        advantage_clip: float = 1.0,
        kl_coef: float = 0.0,
        adaptive_weighting: bool = False,
        decay: float = 0.5,
        decay_increment: float = 0.001,
        stat_buffer_size: int = 64,
        stat_min_count: int = 16,
    ) -> None:
        super().__init__()
        for name, value in (("beta", beta), ("advantage_clip", advantage_clip)):
            if not value > 0:
                raise GraftError(f"model.objective.{name} is {value:g}, but it must be positive")
        for name, value in (("kl_coef", kl_coef), ("decay_increment", decay_increment)):
            if not value >= 0:
                raise GraftError(f"model.objective.{name} is {value:g}, but it cannot be negative")
        if not 0 <= decay < 1:
            raise GraftError(f"model.objective.decay is {decay:g}, but a share that is kept lies in [0, 1)")
        self.beta, self.advantage_clip, self.kl_coef, self.adaptive_weighting = (
            beta,
            advantage_clip,
            kl_coef,
            adaptive_weighting,
        )
        self.decay, self.decay_increment = decay, decay_increment
        self.advantages = AdvantageTracker(stat_buffer_size, stat_min_count, advantage_clip)
        self.register_buffer("begun", torch.zeros((), dtype=torch.long))

    def check(self, module: "GraftModule", data: "Rollouts") -> None:
        """See `Objective.check`."""
        super().check(module, data)
        self.require_consistent(module)

    def on_round_start(self, module: "GraftModule", number: int) -> None:
        """See `Objective.on_round_start`: the old policy follows."""
        if number >= int(self.begun):  # not again in a round that is in its checkpoint
            self.behaviour.lerp(module.backbone, 1 - min(self.decay, self.decay_increment * number))
            self.begun.fill_(number + 1)

    def on_round_resume(self, module: "GraftModule") -> None:
        """See `Objective.on_round_resume`: the statistics are those that the round began with."""
        self.advantages.undo()

    def training_batch(self, module: "GraftModule", scored: ScoredRound) -> TrainingBatch:
        """See `Objective.training_batch`: the final samples, and the probability r of each to be a good one."""
        advantage = self.advantages(scored.rewards, scored.groups)
        return TrainingBatch(
            scored.chunk.state, scored.chunk.condition, (0.5 + advantage / (2 * self.advantage_clip)).float()
        )

    def loss(
        self, module: "GraftModule", examples: TrainingBatch, generator: "Generator | None" = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Objective.loss`, at `GraftModule.sample_levels`."""
        assert examples.weight is not None
        process, clean, condition = module.process, examples.state, examples.condition
        level = module.sample_levels(size(clean), module.level, generator)
        noise = process.noise(clean, condition, generator)
        noisy = process.corrupt_given_noise(clean, noise, level, 0.0)
        # the adaptive error is one of x_0, as the paper has it; the other one is the process's loss
        goal = clean if self.adaptive_weighting else process.loss_target(clean, noise, level)

        def policy(output: State) -> State:
            meant = process.predict_x0 if self.adaptive_weighting else process.loss_output
            return meant(output, noisy, level, condition)

        with eval_mode(module.backbone):  # first: a sharded network has one set of weights at a time
            drew = process(self.behaviour.as_function(module.backbone), noisy, level, condition)
        output = process(module.backbone, noisy, level, condition)
        old, new = policy(drew), policy(output)
        positive, negative = (apply(lambda o, n, b=b: o + b * (n - o), old, new) for b in (self.beta, -self.beta))
        r = examples.weight
        good, bad = (self._error(module, each, goal, level) for each in (positive, negative))
        loss = (r.to(good) * good + (1 - r).to(bad) * bad).mean()
        now, before = (process.loss_output(each, noisy, level, condition) for each in (output, drew))
        shown = {"old_distance": process.x0_error(now, before, level).detach().mean()}
        if self.kl_coef:
            with eval_mode(module.backbone), torch.no_grad():
                other = process(module.reference_forward, noisy, level, condition)
            drift = process.x0_error(now, process.loss_output(other, noisy, level, condition), level).mean()
            shown["reference_distance"] = drift.detach()
            loss = loss + self.kl_coef * drift
        return loss, shown

    def _error(self, module: "GraftModule", policy: State, goal: State, level: Tensor) -> Tensor:
        if not self.adaptive_weighting:
            return module.process.x0_error(policy, goal, level)
        gaps = apply(lambda field, right: (field - right).flatten(1), policy, goal)
        errors = [
            gap.square().mean(1) / gap.detach().abs().mean(1).clamp(min=1e-5)
            for gap in ([gaps] if isinstance(gaps, Tensor) else gaps.values())
        ]
        return torch.stack(errors).sum(0)
