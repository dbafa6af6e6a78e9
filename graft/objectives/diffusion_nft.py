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

from graft.batches import Examples
from graft.errors import GraftError
from graft.network import evaluating
from graft.objectives.advantages import Advantages
from graft.objectives.base import OnPolicy, Scored
from graft.state import State, apply, size

if TYPE_CHECKING:
    from graft.module import GraftModule
    from graft.rollouts import Rollouts


class DiffusionNFT(OnPolicy):
    """Learn from good and bad draws, noised anew: towards what good ones show, away from what bad ones do.

    Args:
        beta: How far the implicit policies are from the old one: the smaller, the larger a round's step.
        spread: Advantages are clipped at so many standard deviations, where r is 0 or 1.
        kl: Weight of the squared difference from the reference's estimate.
        adaptive: Divide each sample's error by its own mean absolute error, held constant (their section 3.3), instead
            of weighting levels as the process does.
        decay: The old policy keeps min(decay, rise · round) of itself when a round begins and takes the rest from the
            network; 0 is fully on-policy.
        rise: See ``decay``.
        memory: See `Advantages`.
        least: See `Advantages`.
    """

    begun: Tensor

    def __init__(
        self,
        beta: float = 1.0,
        spread: float = 1.0,
        kl: float = 0.0,
        adaptive: bool = False,
        decay: float = 0.5,
        rise: float = 0.001,
        memory: int = 64,
        least: int = 16,
    ) -> None:
        super().__init__()
        for name, value in (("beta", beta), ("spread", spread)):
            if not value > 0:
                raise GraftError(f"model.objective.{name} is {value:g}, but it must be positive")
        for name, value in (("kl", kl), ("rise", rise)):
            if not value >= 0:
                raise GraftError(f"model.objective.{name} is {value:g}, but it cannot be negative")
        if not 0 <= decay < 1:
            raise GraftError(f"model.objective.decay is {decay:g}, but a share that is kept lies in [0, 1)")
        self.beta, self.spread, self.kl, self.adaptive = beta, spread, kl, adaptive
        self.decay, self.rise = decay, rise
        self.advantages = Advantages(memory, least, spread)
        self.register_buffer("begun", torch.zeros((), dtype=torch.long))

    def check(self, module: "GraftModule", data: "Rollouts") -> None:
        """See `Objective.check`."""
        super().check(module, data)
        self.consistent(module)

    def start(self, module: "GraftModule", number: int) -> None:
        """See `Objective.start`: the old policy follows."""
        if number >= int(self.begun):  # not again in a round that is in its checkpoint
            self.old.move(module.backbone, 1 - min(self.decay, self.rise * number))
            self.begun.fill_(number + 1)

    def again(self, module: "GraftModule") -> None:
        """See `Objective.again`: the statistics are those that the round began with."""
        self.advantages.again()

    def examples(self, module: "GraftModule", scored: Scored) -> Examples:
        """See `Objective.examples`: the final samples, and the probability r of each to be a good one."""
        advantage = self.advantages(scored.rewards, scored.groups)
        return Examples(scored.chunk.state, scored.chunk.condition, (0.5 + advantage / (2 * self.spread)).float())

    def loss(
        self, module: "GraftModule", examples: Examples, generator: "Generator | None" = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Objective.loss`, at `GraftModule.asked_levels`."""
        assert examples.weight is not None
        process, clean, condition = module.process, examples.state, examples.condition
        level = module.asked_levels(size(clean), module.level, generator)
        noise = process.noise(clean, condition, generator)
        noisy = process.corrupt_with(clean, noise, level, 0.0)
        # the adaptive error is one of x_0, as the paper has it; the other one is the process's loss
        goal = clean if self.adaptive else process.loss_target(clean, noise, level)

        def policy(output: State) -> State:
            meant = process.estimate if self.adaptive else process.loss_output
            return meant(output, noisy, level, condition)

        with evaluating(module.backbone):  # first: a sharded network has one set of weights at a time
            drew = process(self.old.of(module.backbone), noisy, level, condition)
        output = process(module.backbone, noisy, level, condition)
        old, new = policy(drew), policy(output)
        positive, negative = (apply(lambda o, n, b=b: o + b * (n - o), old, new) for b in (self.beta, -self.beta))
        r = examples.weight
        good, bad = (self._error(module, each, goal, level) for each in (positive, negative))
        loss = (r.to(good) * good + (1 - r).to(bad) * bad).mean()
        now, before = (process.loss_output(each, noisy, level, condition) for each in (output, drew))
        shown = {"old_distance": process.distance(now, before, level).detach().mean()}
        if self.kl:
            with evaluating(module.backbone), torch.no_grad():
                other = process(module.reference_model, noisy, level, condition)
            drift = process.distance(now, process.loss_output(other, noisy, level, condition), level).mean()
            shown["reference_distance"] = drift.detach()
            loss = loss + self.kl * drift
        return loss, shown

    def _error(self, module: "GraftModule", policy: State, goal: State, level: Tensor) -> Tensor:
        if not self.adaptive:
            return module.process.distance(policy, goal, level)
        gaps = apply(lambda field, right: (field - right).flatten(1), policy, goal)
        errors = [
            gap.square().mean(1) / gap.detach().abs().mean(1).clamp(min=1e-5)
            for gap in ([gaps] if isinstance(gaps, Tensor) else gaps.values())
        ]
        return torch.stack(errors).sum(0)
