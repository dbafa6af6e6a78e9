r"""DiffusionNFT: negative-aware fine-tuning on the forward process (Zheng et al. 2025, arXiv 2509.16117).

The network \theta and the old network, which sampled, define two policies, one better and one worse than the old one,

.. math:: v^\pm = v_{old} \pm \beta (v_\theta - v_{old}), \qquad
    L = E\big[ r \|v^+ - v\|^2 + (1 - r) \|v^- - v\|^2 \big],

with r in [0, 1] the probability that a sample is a good one. If the old network is exact, E[v | x_t] = v_old, the
derivative is 0 at

.. math:: v_\theta = v_{old} + \tfrac{1}{\beta} E[(2 r - 1)(v - v_{old}) \mid x_t]
    = v_{old} + \tfrac{2}{\beta}\, \mathrm{Cov}(r, v \mid x_t),

which is their Theorem 3.2. Here r is linear in the reward, r = 1/2 + A / (2 s) for the advantage A and s =
``advantage_clip``. To first order this is the old distribution tilted by exp(A / (\beta s)), and exactly so for a
Gaussian and a linear reward: \beta s is a temperature in standard deviations of the reward.

If the old network is not exact, e = E[v | x_t] - v_old adds (2 E[r | x_t] - 1) e / \beta to the right side, so that
errors grow near bad samples, and below \beta = 1/2 near good ones too. ``push_limit`` bounds the first
(`graft.objectives.push_limit`); it is not in the paper.

The implementation compares the network's own predictions (`graft.process.Process.loss_output`), and predictions of x_0
with ``adaptive_weighting``. The loss is the same up to the process's weight of a level.
"""

import torch
from torch import Generator, Tensor
from typing_extensions import override

from graft.core import limits
from graft.core.datatypes import TrainingBatch
from graft.core.state import State, apply, size
from graft.network import eval_mode
from graft.objectives.advantages import AdvantageTracker
from graft.objectives.base import OnPolicy, RoundSpec, ScoredRound
from graft.objectives.push_limit import limit_push
from graft.policy import Policy


class DiffusionNFT(OnPolicy):
    """Train on good and bad samples, noised again: towards the good ones and away from the bad ones.

    Args:
        beta: Distance of the two policies from the old one. A smaller one makes the step of a round larger.
        advantage_clip: Largest advantage, in standard deviations of the reward; there r is 0 or 1.
        kl_coef: Weight of the squared difference from the reference's prediction.
        adaptive_weighting: Divide each sample's error by its own mean absolute error, held constant (their section
            3.3), instead of by the process's weight of a level.
        decay: Largest share of itself that the old policy keeps when a round begins; 0 is fully on-policy.
        decay_increment: The old policy keeps min(decay, decay_increment · round) of itself when a round begins.
        stat_buffer_size: Number of rewards of each condition that the advantages' statistics are computed from.
        stat_min_count: Smallest number of rewards of a condition for statistics of its own.
        push_limit: Largest relative increase of the reference's error on a bad sample; null for none. It takes one more
            call of the network for each sample.
    """

    rounds_started: Tensor

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
        push_limit: "float | None" = None,
    ) -> None:
        super().__init__()
        for name, value in (("beta", beta), ("advantage_clip", advantage_clip)):
            limits.check(f"model.objective.{name}", value, 0, above=True)
        for name, value in (("kl_coef", kl_coef), ("decay_increment", decay_increment)):
            limits.check(f"model.objective.{name}", value, 0)
        limits.check("model.objective.decay", decay, 0, 1, below=True)
        limits.check("model.objective.push_limit", push_limit, 0)
        self.beta, self.advantage_clip, self.kl_coef = beta, advantage_clip, kl_coef
        self.adaptive_weighting = adaptive_weighting
        self.decay, self.decay_increment, self.push_limit = decay, decay_increment, push_limit
        self.advantages = AdvantageTracker(stat_buffer_size, stat_min_count, advantage_clip)
        self.register_buffer("rounds_started", torch.zeros((), dtype=torch.long))

    @override
    def check(self, policy: Policy, spec: RoundSpec) -> None:
        super().check(policy, spec)
        self.require_consistent(policy)

    @override
    def on_round_start(self, policy: Policy, number: int) -> None:
        if number >= int(self.rounds_started):  # a round that its checkpoint holds has done it already
            self.sampling_weights(policy).lerp(policy.backbone, 1 - min(self.decay, self.decay_increment * number))
            self.rounds_started.fill_(number + 1)

    @override
    def on_round_resume(self, policy: Policy) -> None:
        self.advantages.undo()

    @override
    def training_batch(self, policy: Policy, scored: ScoredRound) -> TrainingBatch:
        advantage = self.advantages(scored.rewards, scored.groups, scored.prefix)
        return TrainingBatch(
            scored.chunk.state, scored.chunk.condition, (0.5 + advantage / (2 * self.advantage_clip)).float()
        )

    @override
    def loss(
        self, policy: Policy, batch: TrainingBatch, generator: "Generator | None" = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert batch.weight is not None
        process, clean, condition = policy.process, batch.state, batch.condition
        level = policy.sample_levels(size(clean), generator)
        noise = process.noise(clean, condition, generator)
        noisy = process.corrupt_given_noise(clean, noise, level, 0.0)
        # the adaptive error is one of x_0, as in the paper; the other one is the process's loss
        goal = clean if self.adaptive_weighting else process.loss_target(clean, noise, level)

        def prediction(output: State) -> State:
            predict = process.predict_x0 if self.adaptive_weighting else process.loss_output
            return predict(output, noisy, level, condition)

        with eval_mode(policy.backbone):  # first, because a sharded network has one set of weights at a time
            drew = process(self.sampling_weights(policy).as_function(policy.backbone), noisy, level, condition)
        output = process(policy.backbone, noisy, level, condition)
        old, new = prediction(drew), prediction(output)
        positive, negative = (apply(lambda o, n, b=b: o + b * (n - o), old, new) for b in (self.beta, -self.beta))
        r = batch.weight
        good, bad = (self._error(policy, each, goal, level) for each in (positive, negative))
        losses = r.to(good) * good + (1 - r).to(bad) * bad
        now, before = (process.loss_output(each, noisy, level, condition) for each in (output, drew))
        shown = {"old_distance": process.x0_error(now, before, level).detach().mean()}
        if self.kl_coef or self.push_limit is not None:
            other = policy.reference_output(noisy, level, condition)
        if self.push_limit is not None:
            error, least = (self._error(policy, each, goal, level) for each in (new, prediction(other)))
            losses, shown["stopped"] = limit_push(losses, error, least, r < 0.5, self.push_limit)
        loss = losses.mean()
        if self.kl_coef:
            drift = process.x0_error(now, process.loss_output(other, noisy, level, condition), level).mean()
            shown["reference_distance"] = drift.detach()
            loss = loss + self.kl_coef * drift
        return loss, shown

    def _error(self, policy: Policy, prediction: State, goal: State, level: Tensor) -> Tensor:
        if not self.adaptive_weighting:
            return policy.process.x0_error(prediction, goal, level)
        gaps = apply(lambda field, right: (field - right).flatten(1), prediction, goal)
        errors = [
            gap.square().mean(1) / gap.detach().abs().mean(1).clamp(min=1e-5)
            for gap in ([gaps] if isinstance(gaps, Tensor) else gaps.values())
        ]
        return torch.stack(errors).sum(0)
