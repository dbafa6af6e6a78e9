r"""Policy gradient over the denoising chain: DDPO with importance sampling (Black et al. 2023, arXiv 2305.13301).

Each step of the sampler is an action whose log-probability is known, so that the gradient of the expected reward is

.. math:: \nabla E[r(x_0)] = E\Big[\sum_t \rho_t \nabla \log p_\theta(x_s \mid x_t)\,(r - b)\Big], \qquad
    \rho_t = p_\theta(x_s \mid x_t) / p_{old}(x_s \mid x_t)

(their eq. 4 with ratios of single steps, clipped as in Schulman et al. 2017, eq. 7).
"""

from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from graft import seeding
from graft.batches import TrainingBatch
from graft.errors import GraftError
from graft.network import eval_mode
from graft.objectives.advantages import AdvantageTracker
from graft.objectives.base import OnPolicy, ScoredRound
from graft.sampler import level_grid
from graft.state import apply, size, take

if TYPE_CHECKING:
    from graft.module import GraftModule
    from graft.rollouts import Rollouts


class PolicyGradient(OnPolicy):
    """DDPO: raise the probability of the steps that led to better rewards than usual, within a trust region.

    The step to level 0 draws no noise, so it has no probability to raise: at ``model.level`` 0 it only moves with the
    rest of the network, and the gradient is that of a reward seen one step earlier; with a level of at least one step
    the reference does it, and the gradient is exact. As many passes over a round as ``data.steps_per_round`` asks for;
    batches too large for memory are split with ``trainer.accumulate_grad_batches``. The network is in evaluation mode
    while it learns: with dropout it would not be the policy that drew.

    Args:
        clip_range: The ratio of probabilities counts no further than 1 ± clip. It is the true ratio, of all dimensions
            together; the released DDPO takes the mean over dimensions and clips that at 1e-4.
        steps_per_sample: Steps of each draw in a batch, chosen at random; 0: all of them.
        kl_coef: Weight of the KL divergence from the reference's step, in nats a step.
        advantage_clip: Largest advantage, in standard deviations of the reward.
        stat_buffer_size: See `AdvantageTracker`.
        stat_min_count: See `AdvantageTracker`.
    """

    def __init__(
        self,
        clip_range: float = 0.2,
        steps_per_sample: int = 4,
        kl_coef: float = 0.0,
        advantage_clip: float = 5.0,
        stat_buffer_size: int = 64,
        stat_min_count: int = 16,
    ) -> None:
        super().__init__()
        if not clip_range > 0:
            raise GraftError(f"model.objective.clip_range is {clip_range:g}, but it must be positive")
        if steps_per_sample < 0:
            raise GraftError(
                f"model.objective.steps_per_sample is {steps_per_sample}, but a batch cannot take fewer than none"
            )
        if not kl_coef >= 0:
            raise GraftError(f"model.objective.kl_coef is {kl_coef:g}, but a penalty cannot be negative")
        if not advantage_clip > 0:
            raise GraftError(f"model.objective.advantage_clip is {advantage_clip:g}, but it must be positive")
        self.clip_range, self.steps_per_sample, self.kl_coef = clip_range, steps_per_sample, kl_coef
        self.advantages = AdvantageTracker(stat_buffer_size, stat_min_count, advantage_clip)

    def check(self, module: "GraftModule", data: "Rollouts") -> None:
        """See `Objective.check`."""
        super().check(module, data)
        if module.has_fixed_part:
            raise GraftError("PolicyGradient needs the network's own steps: nothing of a sample may be given")
        if not module.process.has_log_prob:
            raise GraftError("PolicyGradient needs steps that draw noise: set eta > 0 in every field of the process")
        if len(self.record_levels(module)) < 2:
            raise GraftError("PolicyGradient needs a step of the tuned network that draws noise: raise model.steps")

    def record_levels(self, module: "GraftModule") -> tuple[float, ...]:
        """See `Objective.record_levels`: all that the tuned network's noisy steps begin or end with, downwards."""
        return tuple(
            u for u in level_grid(module.steps) if max(module.level, 1 / module.steps) <= u <= module.upper_level
        )

    def on_round_start(self, module: "GraftModule", number: int) -> None:
        """See `Objective.on_round_start`: the old policy is the network as it is now."""
        self.behaviour.lerp(module.backbone, 1.0)

    def on_round_resume(self, module: "GraftModule") -> None:
        """See `Objective.on_round_resume`: the statistics are those that the round began with."""
        self.advantages.undo()

    def training_batch(self, module: "GraftModule", scored: ScoredRound) -> TrainingBatch:
        """Return (A, levels, ...) states of the draws that have a reward, and their advantages."""
        paths = [scored.chunk.recorded[level] for level in self.record_levels(module)]
        state = apply(lambda *fields: torch.stack(fields, 1), paths[0], *paths[1:])
        advantage = self.advantages(scored.rewards, scored.groups)
        return TrainingBatch(state, scored.chunk.condition, advantage.float())

    def loss(
        self, module: "GraftModule", examples: TrainingBatch, generator: "Generator | None" = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Objective.loss`: the mean over draws and steps of the clipped surrogate, and of the penalty."""
        assert examples.weight is not None
        levels = torch.tensor(self.record_levels(module), dtype=torch.float64)
        count, steps = size(examples.state), len(levels) - 1
        order = seeding.uniform((count, steps), generator, torch.float32).argsort(1)
        step = order[:, : self.steps_per_sample or steps].flatten()
        row = torch.arange(count).repeat_interleave(len(step) // count)
        state = take(examples.state, (row, step))
        following = take(examples.state, (row, step + 1))
        condition = take(examples.condition, row)
        assert isinstance(condition, dict)
        place = levels[step], levels[step + 1], condition
        process = module.process
        with eval_mode(module.backbone):
            # the old one first: a sharded network has one set of weights at a time
            old = process(self.behaviour.as_function(module.backbone), state, levels[step], condition)
            output = process(module.backbone, state, levels[step], condition)
        log_ratio = process.log_prob(output, state, following, *place) - process.log_prob(old, state, following, *place)
        ratio = log_ratio.clamp(-20, 20).exp()  # e^20 is far outside any trust region, and finite
        advantage = examples.weight.to(ratio)[row]
        loss = torch.maximum(
            -advantage * ratio, -advantage * ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
        ).mean()
        shown = {
            "ratio_clipped": ((ratio - 1).abs() > self.clip_range).float().mean(),
            "old_kl": process.step_kl(output, old, state, *place).detach().mean(),
        }
        if self.kl_coef:
            with eval_mode(module.backbone), torch.no_grad():
                reference = process(module.reference_forward, state, levels[step], condition)
            divergence = process.step_kl(output, reference, state, *place).mean()
            shown["reference_kl"] = divergence.detach()
            loss = loss + self.kl_coef * divergence
        return loss, shown

    def describe(self, module: "GraftModule") -> str:
        """See `Objective.describe`."""
        return "policy gradient (DDPO)"
