"""Files of a policy's trained weights, and mixtures of them with the reference's."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft.core.distributed import is_rank_zero
from graft.core.finite import require_finite_weights
from graft.errors import GraftError
from graft.io.tensors import read_tensors, write_tensors
from graft.network import trainable_parameters
from graft.network.sharded import full_tensor
from graft.network.weights import load_tensors, persistent_buffers, with_prefix
from graft.policy.policy import Policy


def write_weights(policy: Policy, path: "str | Path", statistics: dict[str, Tensor], note: dict[str, Any]) -> None:
    """Write the trained weights of a policy, averaged if there is an average.

    All ranks call it, because weights may be sharded. Rank 0 writes.

    Args:
        policy: The policy.
        path: The file.
        statistics: Statistics of the training data, stored with the weights.
        note: The file's header.

    Raises:
        NotFiniteError: A weight is not finite, on every rank.
    """
    with policy.eval_weights():
        own = policy.trained_parameters()
        tensors = {f"backbone/{name}": full_tensor(p.detach()).clone() for name, p in own.items()}
    buffers = {f"backbone/{name}": buffer for name, buffer in policy.trained_buffers().items()}
    require_finite_weights(tensors | buffers, f"{path} was not written", "lower model.optimizer.lr", buffers)
    if is_rank_zero():
        kept = {f"statistics/{name}": tensor for name, tensor in statistics.items()}
        write_tensors(path, tensors | buffers | kept, note)


def read_weights(policy: Policy, path: "str | Path") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the weights that `write_weights` wrote into the trained network.

    Returns:
        (statistics of the training data, the file's header).

    Raises:
        GraftError: The weights belong to another network, or were tuned from another reference.
    """
    tensors, about = read_tensors(path)
    theirs, ours = about.get("reference"), policy.reference_file
    if theirs and not (isinstance(theirs, dict) and all(isinstance(theirs.get(n), str) for n in ("path", "sha256"))):
        raise GraftError(f"{path} is damaged: its entry `reference` is not a path and a hash")
    if theirs and ours and theirs["sha256"] != ours["sha256"]:
        raise GraftError(
            f"{path} was tuned from another reference ({theirs['path']}, sha256 {theirs['sha256'][:12]}…) than "
            f"model.weights ({ours['path']}, sha256 {ours['sha256'][:12]}…): use the same one"
        )
    expected = policy.trained_parameters() if theirs else dict(policy.backbone.named_parameters())
    buffers = policy.trained_buffers() if theirs else persistent_buffers(policy.backbone)
    load_tensors(policy.backbone, with_prefix(tensors, "backbone"), path, expected, buffers)
    policy.restart_ema()
    return with_prefix(tensors, "statistics"), about


def keep_reference(policy: Policy, folder: Path) -> None:
    """Write a reference that was given in memory into a run's folder, so that a command finds it there.

    All ranks call it. Rank 0 writes.
    """
    if policy.in_memory is None or policy.reference_file is None:
        return
    path = (folder / "checkpoints" / "reference.safetensors").resolve()
    if is_rank_zero():
        tensors = {f"backbone/{name}": tensor for name, tensor in policy.in_memory.items()}
        write_tensors(path, tensors, {"memory": True})
    policy.reference_file["path"] = str(path)


@torch.no_grad()
def interpolate(policy: Policy, share: float) -> None:
    """Replace the trained weights by ``share`` · tuned + (1 − share) · reference.

    The tuned weights are the averaged ones if there is an average. The update of an adapter is scaled through one of
    its two factors.

    Raises:
        GraftError: There is no reference, the model has a corrector (another network than the reference), or weights
            overflow.
    """
    if policy.corrector is not None:
        raise GraftError("a corrector's weights cannot be mixed with a reference's: it is another network")
    if policy.reference_file is None:
        raise GraftError("weights are mixed with those of a reference, and there is none: give model.weights")
    with policy.eval_weights():
        tuned = {name: p.detach().clone() for name, p in trainable_parameters(policy.backbone).items()}
    reference = dict(policy.reference.named_parameters()) if policy.reference is not None else {}
    mixed: dict[str, Tensor] = {}
    for name, weights in tuned.items():
        if name in reference:
            mixed[name] = torch.lerp(reference[name], weights, share)
        else:
            mixed[name] = weights * share if _second_factor(name) else weights
    if not all(bool(weights.isfinite().all()) for weights in mixed.values()):
        raise GraftError(f"--interpolate is {share:g}; it makes weights that are not finite. Take a smaller one")
    for name, parameter in trainable_parameters(policy.backbone).items():
        parameter.copy_(mixed[name])
    policy.restart_ema()


def _second_factor(name: str) -> bool:
    """Return whether a parameter is the B of an adapter's update B A, as peft names it."""
    return "lora_B" in name or "lora_embedding_B" in name
