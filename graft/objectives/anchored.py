r"""Anchored shaping: accepted draws are learned relative to all draws, so that errors common to both cancel.

A network D that is trained on the draws of another one, D_old, without any selection, is not D_old again: a finite
sampler and a network that is not exact make draws whose own best denoiser, D_all, is another one. Shaping goes to the
best denoiser of the accepted draws, D_acc, and so makes those errors once more. Here, with w the acceptance weight of a
draw, of mean 1 over all draws and 0 where it was rejected,

.. math:: L = E_{all}\big[ (w - 1) \|D - x_0\|^2 + \|D - D_{old}\|^2 \big],

whose optimum at x_u is

.. math:: D = D_{acc} + \frac{p_{all}(x_u)}{p_{acc}(x_u)}\,(D_{old} - D_{all}),

the denoiser of the accepted law where the old network is consistent, and else corrected by what it gets wrong of its
own draws. The gradient at D_old is (w − 1)(D_old − x_0): without selection it is 0 for each draw, not only on average,
so that the noise of the gradient is that of the selection alone.
"""

from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from graft.batches import TrainingBatch
from graft.errors import GraftError
from graft.network import EMA, eval_mode
from graft.objectives.base import Objective, ScoredRound
from graft.state import size

if TYPE_CHECKING:
    from graft.module import GraftModule
    from graft.rollouts import Rollouts


class AnchoredShaping(Objective):
    """GRAFT and P-GRAFT relative to all draws: accepted ones attract, others repel, the network that drew anchors.

    Any acceptance rule; final samples are noised anew. It costs a second call of the network for each example.
    """

    needs_rejected = True
    old: EMA
    source: str

    def setup(self, module: "GraftModule") -> None:
        """See `Objective.setup`."""
        self.old = EMA(module.backbone, decay=0.0)

    def check(self, module: "GraftModule", data: "Rollouts") -> None:
        """See `Objective.check`."""
        if module.corrector is not None:
            raise GraftError("AnchoredShaping trains the model itself, not a corrector: use model.objective=Shaping")
        if not data.source.is_model:
            raise GraftError("AnchoredShaping needs accepted and rejected draws of the model: a scored file has none")
        if data.source.name == "current" and data.replay_rounds != 1:
            raise GraftError("AnchoredShaping learns from one network's draws at a time: use data.replay_rounds=1")
        self.require_consistent(module)

    def on_round_start(self, module: "GraftModule", number: int) -> None:
        """See `Objective.on_round_start`: the old network is the one that draws now."""
        with module.ema_weights():
            self.old.lerp(module.backbone, 1.0)

    def training_batch(self, module: "GraftModule", scored: ScoredRound) -> TrainingBatch:
        """See `Objective.training_batch`: all final samples, with weights of mean 1, 0 for those that were rejected."""
        self.source = scored.source
        weight = scored.weight / scored.weight.mean()
        return TrainingBatch(scored.chunk.state, scored.chunk.condition, weight.float())

    def loss(
        self, module: "GraftModule", examples: TrainingBatch, generator: "Generator | None" = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Objective.loss`, at `GraftModule.sample_levels`; it may be negative."""
        assert examples.weight is not None
        process, clean, condition = module.process, examples.state, examples.condition
        level = module.sample_levels(size(clean), module.level, generator)
        noise = process.noise(clean, condition, generator)
        noisy = process.corrupt_given_noise(clean, noise, level, 0.0)
        drew = self.old.as_function(module.backbone) if self.source == "current" else module.reference_forward
        with eval_mode(module.backbone), torch.no_grad():
            old = process.loss_output(process(drew, noisy, level, condition), noisy, level, condition)
        new = process.loss_output(process(module.backbone, noisy, level, condition), noisy, level, condition)
        distance = process.x0_error(new, old, level)
        error = process.x0_error(new, process.loss_target(clean, noise, level), level)
        loss = ((examples.weight.to(error) - 1) * error + distance).mean()
        return loss, {"old_distance": distance.detach().mean()}

    def describe(self, module: "GraftModule") -> str:
        """See `Objective.describe`."""
        return f"anchored {'P-GRAFT' if module.level > 0 else 'GRAFT'}"
