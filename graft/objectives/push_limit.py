r"""A bound on how far bad samples push the network away from them.

An objective that learns from bad samples moves the prediction v_\theta at x_t away from their targets v. Where the old
network errs, e = E[v | x_t] - v_{old}, the push has a part along -e. Near bad samples the new network then has a larger
error than the old one, the next round repeats this, and the error grows geometrically until the network fails. With a
limit \lambda a bad sample has no gradient once

.. math:: \|v_\theta - v\|^2 > (1 + \lambda) \|v_{ref} - v\|^2,

with v_{ref} the prediction of the frozen reference on the same noise. If the reference is exact and the network near
it, no sample is stopped and the optimum of the objective does not change.
"""

from torch import Tensor


def limit_push(
    losses: Tensor, error: Tensor, reference_error: Tensor, bad: Tensor, limit: float
) -> tuple[Tensor, Tensor]:
    """Return losses (B,), 0 for samples that may not push any further, and the share of those samples.

    Args:
        losses: Losses (B,) of an objective.
        error: Errors (B,) of the network that is trained.
        reference_error: Errors (B,) of the reference on the same noise.
        bad: Which samples (B,) push the network away from them.
        limit: Largest relative increase of the reference's error on a bad sample.
    """
    stopped = bad.to(error.device) & (error.detach() > (1 + limit) * reference_error)
    return losses.masked_fill(stopped, 0.0), stopped.to(losses).mean()
