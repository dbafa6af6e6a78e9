r"""Policy gradient over the denoising chain: DDPO with importance sampling (Black et al. 2023, arXiv 2305.13301).

Each step of the sampler is an action whose log-probability is known, so that the gradient of the expected reward is

.. math:: \nabla E[r(x_0)] = E\Big[\sum_t \rho_t \nabla \log p_\theta(x_s \mid x_t)\,(r - b)\Big], \qquad
    \rho_t = p_\theta(x_s \mid x_t) / p_{old}(x_s \mid x_t)

(their eq. 4 with ratios of single steps, clipped as in Schulman et al. 2017, eq. 7).
"""

import torch
from torch import Generator, Tensor
from typing_extensions import override

from graft.core import limits, seeding
from graft.core.datatypes import TrainingBatch
from graft.core.state import apply, size, take
from graft.errors import GraftError
from graft.network import eval_mode
from graft.objectives.advantages import AdvantageTracker
from graft.objectives.base import OnPolicy, RoundSpec, ScoredRound
from graft.policy import Policy
from graft.sampler import level_grid


class PolicyGradient(OnPolicy):
    """DDPO: raise the probability of sampler steps that led to better rewards than usual, within a trust region.

    The step to level 0 is deterministic and has no probability. At ``model.level`` 0 the gradient is therefore that of
    a reward seen one step earlier. At a level of at least one step the reference makes that step, and the gradient is
    exact. The network is in evaluation mode while it is trained, because with dropout it would not be the policy that
    sampled. ``data.steps_per_round`` sets the number of passes over a round; ``trainer.accumulate_grad_batches`` splits
    batches that are too large for the memory.

    Args:
        clip_range: Clip the ratio of probabilities to 1 ± clip_range. It is the ratio over all dimensions together; the
            released DDPO takes the mean over dimensions instead.
        steps_per_sample: Number of random sampler steps of each sample in a batch; 0: all of them.
        kl_coef: Weight of the KL divergence from the reference's step, in nats a step.
        advantage_clip: Largest advantage, in standard deviations of the reward.
        stat_buffer_size: Number of rewards of each condition that the advantages' statistics are computed from.
        stat_min_count: Smallest number of rewards of a condition for statistics of its own.
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
        limits.check("model.objective.clip_range", clip_range, 0, above=True)
        limits.check("model.objective.steps_per_sample", steps_per_sample, 0)
        limits.check("model.objective.kl_coef", kl_coef, 0)
        limits.check("model.objective.advantage_clip", advantage_clip, 0, above=True)
        self.clip_range, self.steps_per_sample, self.kl_coef = clip_range, steps_per_sample, kl_coef
        self.advantages = AdvantageTracker(stat_buffer_size, stat_min_count, advantage_clip)

    @override
    def check(self, policy: Policy, spec: RoundSpec) -> None:
        super().check(policy, spec)
        if policy.has_fixed_part:
            raise GraftError("PolicyGradient needs the network's own steps: nothing of a sample may be given")
        if not policy.process.has_log_prob:
            raise GraftError("PolicyGradient needs steps that draw noise: set eta > 0 in every field of the process")
        if len(self.record_levels(policy)) < 2:
            raise GraftError("PolicyGradient needs a step of the tuned network that draws noise: raise model.steps")

    @override
    def record_levels(self, policy: Policy) -> tuple[float, ...]:
        lowest, highest = max(policy.interval.low, 1 / policy.steps), policy.interval.high
        return tuple(level for level in level_grid(policy.steps) if lowest <= level <= highest)

    @override
    def on_round_start(self, policy: Policy, number: int) -> None:
        self.sampling_weights(policy).lerp(policy.backbone, 1.0)

    @override
    def on_round_resume(self, policy: Policy) -> None:
        self.advantages.undo()

    @override
    def training_batch(self, policy: Policy, scored: ScoredRound) -> TrainingBatch:
        """Return the states (A, levels, ...) and the advantages of all samples."""
        paths = [scored.chunk.recorded[level] for level in self.record_levels(policy)]
        state = apply(lambda *fields: torch.stack(fields, 1), paths[0], *paths[1:])
        advantage = self.advantages(scored.rewards, scored.groups, scored.prefix)
        return TrainingBatch(state, scored.chunk.condition, advantage.float())

    @override
    def loss(
        self, policy: Policy, batch: TrainingBatch, generator: "Generator | None" = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert batch.weight is not None
        levels = torch.tensor(self.record_levels(policy), dtype=torch.float64)
        count, steps = size(batch.state), len(levels) - 1
        order = seeding.uniform((count, steps), generator, torch.float32).argsort(1)
        step = order[:, : self.steps_per_sample or steps].flatten()
        row = torch.arange(count).repeat_interleave(len(step) // count)
        state = take(batch.state, (row, step))
        following = take(batch.state, (row, step + 1))
        condition = take(batch.condition, row)
        place = levels[step], levels[step + 1], condition
        process = policy.process
        with eval_mode(policy.backbone):
            # the old weights first, because a sharded network has one set of weights at a time
            old = process(self.sampling_weights(policy).as_function(policy.backbone), state, levels[step], condition)
            output = process(policy.backbone, state, levels[step], condition)
        log_ratio = process.log_prob(output, state, following, *place) - process.log_prob(old, state, following, *place)
        ratio = log_ratio.clamp(-20, 20).exp()  # e^20 is far outside any trust region, and finite
        advantage = batch.weight.to(ratio)[row]
        loss = torch.maximum(
            -advantage * ratio, -advantage * ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
        ).mean()
        shown = {
            "ratio_clipped": ((ratio - 1).abs() > self.clip_range).float().mean(),
            "old_kl": process.step_kl(output, old, state, *place).detach().mean(),
        }
        if self.kl_coef:
            reference = policy.reference_output(state, levels[step], condition)
            divergence = process.step_kl(output, reference, state, *place).mean()
            shown["reference_kl"] = divergence.detach()
            loss = loss + self.kl_coef * divergence
        return loss, shown

    @override
    def describe(self, policy: Policy) -> str:
        return "policy gradient (DDPO)"
