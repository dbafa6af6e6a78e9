r"""Anchored shaping: train on accepted samples relative to all samples, so that errors common to both cancel.

A network D that is trained on samples of another network D_old without selection does not become D_old again. The
sampler is finite and D_old is not exact, so the best denoiser D_all of its samples is a different one. Shaping
converges to the best denoiser D_acc of the accepted samples and repeats those errors. Anchored shaping uses the
acceptance weight w of each sample, which has mean 1 over all samples and is 0 for rejected ones:

.. math:: L = E_{all}\big[ (w - 1) \|D - x_0\|^2 + \|D - D_{old}\|^2 \big].

Its optimum at x_u is

.. math:: D = D_{acc} + \frac{p_{all}(x_u)}{p_{acc}(x_u)}\,(D_{old} - D_{all}),

the denoiser of the accepted distribution if the old network is consistent, and otherwise corrected by the error of the
old network on its own samples. The gradient at D_old is (w − 1)(D_old − x_0). Without selection it is 0 for each
sample, so the noise of the gradient comes from the selection alone.

With a contrast scale s the same loss, times s, trains D' = D_old + (D − D_old) / s, and the optimum is

.. math:: D = D_{old} + s\, (D^* - D_{old})

for the optimum D* above: classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598, equation 6) with the
acceptance as the condition. A network that is trained on few samples may learn only a part of the way from D_old to
D*, and s > 1 makes up for it. If it learns D*, its samples have more reward and more drift than the accepted ones.
"""

import torch
from torch import Generator, Tensor
from typing_extensions import override

from graft.core import limits
from graft.core.datatypes import TrainingBatch
from graft.core.state import apply, size
from graft.errors import GraftError
from graft.network import EMA, eval_mode
from graft.objectives.base import Objective, RoundSpec, ScoredRound
from graft.objectives.push_limit import limit_push
from graft.policy import Policy


class AnchoredShaping(Objective):
    """Train on accepted and rejected samples, anchored at the network that sampled them.

    It works with any acceptance rule and noises final samples again. It takes two network calls for each sample.

    Args:
        push_limit: Largest relative increase of the reference's error on a sample of weight below 1, such as a rejected
            one (`graft.objectives.push_limit`); null for none. With draws of the current model it takes one more
            network call for each sample.
        contrast_scale: Length of the step from the network that sampled to the accepted distribution's denoiser, in
            the space of the loss; 1 for that denoiser itself, more for more reward and more drift. Probabilities of
            classes stay probabilities, so that their step may be shorter.

    Raises:
        GraftError: A setting is out of range.
    """

    needs_rejected = True
    old: EMA
    source: str

    def __init__(self, push_limit: "float | None" = None, contrast_scale: float = 1.0) -> None:
        super().__init__()
        limits.check("model.objective.push_limit", push_limit, 0)
        limits.check("model.objective.contrast_scale", contrast_scale, 0, above=True)
        self.push_limit, self.contrast_scale = push_limit, contrast_scale

    @override
    def setup(self, policy: Policy) -> None:
        self.old = EMA(policy.backbone, decay=0.0)

    @override
    def check(self, policy: Policy, spec: RoundSpec) -> None:
        if policy.corrector is not None:
            raise GraftError("AnchoredShaping trains the model itself, not a corrector: use model.objective=Shaping")
        if not spec.is_sampled:
            raise GraftError(
                "AnchoredShaping needs accepted and rejected draws of the model, and a scored file has none: use "
                "model.objective=graft.objectives.Shaping"
            )
        if spec.source == "current" and spec.replay_rounds != 1:
            raise GraftError("AnchoredShaping learns from one network's draws at a time: use data.replay_rounds=1")
        self.require_consistent(policy)

    @override
    def on_round_start(self, policy: Policy, number: int) -> None:
        with policy.ema_weights():
            self.old.lerp(policy.backbone, 1.0)

    @override
    def training_batch(self, policy: Policy, scored: ScoredRound) -> TrainingBatch:
        self.source = scored.source
        weight = scored.weight / scored.weight.mean()
        return TrainingBatch(scored.chunk.state, scored.chunk.condition, weight.float())

    @override
    def loss(
        self, policy: Policy, batch: TrainingBatch, generator: "Generator | None" = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert batch.weight is not None
        process, clean, condition = policy.process, batch.state, batch.condition
        level = policy.sample_levels(size(clean), generator)
        noise = process.noise(clean, condition, generator)
        noisy = process.corrupt_given_noise(clean, noise, level, 0.0)
        drew = self.old.as_function(policy.backbone) if self.source == "current" else policy.reference_forward
        with eval_mode(policy.backbone), torch.no_grad():
            old = process.loss_output(process(drew, noisy, level, condition), noisy, level, condition)
        new = process.loss_output(process(policy.backbone, noisy, level, condition), noisy, level, condition)
        goal = process.loss_target(clean, noise, level)
        scale = self.contrast_scale
        part = apply(lambda o, n: o + (n - o) / scale, old, new) if scale != 1 else new
        distance, error = process.x0_error(part, old, level), process.x0_error(part, goal, level)
        excess = batch.weight.to(error) - 1
        losses = scale * (excess * error + distance)
        shown = {"old_distance": scale**2 * distance.detach().mean()}  # of new from old, as the error is quadratic
        if self.push_limit is not None:
            reference = old
            if self.source == "current":
                output = policy.reference_output(noisy, level, condition)
                reference = process.loss_output(output, noisy, level, condition)
            least = process.x0_error(reference, goal, level)
            error = process.x0_error(new, goal, level)
            losses, shown["stopped"] = limit_push(losses, error, least, excess < 0, self.push_limit)
        return losses.mean(), shown

    @override
    def describe(self, policy: Policy) -> str:
        return f"anchored {'P-GRAFT' if policy.interval.low > 0 else 'GRAFT'}"
