"""Check in the first round that the reference is consistent with its own samples; shaping repeats its errors."""

from lightning.pytorch import Trainer

from graft.core import distributed
from graft.core.datatypes import TrainingBatch
from graft.objectives import Objective, ScoredRound
from graft.objectives.reference_error import LIMIT, ErrorRatio, reference_error
from graft.policy import Policy
from graft.runs.sharding import shards


def check_reference(
    policy: Policy, objective: Objective, scored: ScoredRound, seed: int, trainer: Trainer
) -> "ErrorRatio | None":
    """Return the reference's error on the samples of the first round, and warn if it is large.

    The result is None for too few samples and for a sharded network.

    Args:
        policy: The policy that sampled.
        objective: The objective, one that repeats the reference's errors.
        scored: All samples of the round with their acceptance weights.
        seed: Seed of the check.
        trainer: The trainer of the run, with its strategy set up.
    """
    if shards(trainer.strategy) or not bool(scored.weight.any()):
        return None

    def move(batch: TrainingBatch) -> TrainingBatch:
        moved: TrainingBatch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
        return moved

    batch = objective.training_batch(policy, scored)
    found = reference_error(policy, batch, seed, trainer.precision_plugin.train_step_context, move)
    if found is not None and found.is_large:
        distributed.rank_zero_print(
            "warning: the reference is not consistent with its own draws. Its error on them, relative to the "
            f"selection, is {found}; the limit of the lower bound is {LIMIT:g}. This objective repeats the error and "
            "may lower the reward or the quality. Use model.objective=graft.objectives.AnchoredShaping or more "
            "model.steps."
        )
    return found
