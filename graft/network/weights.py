"""The weights of a `GraftModule`: read from and written to files, kept out of checkpoints, and mixed."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from graft import files
from graft.distributed import is_rank_zero
from graft.errors import GraftError
from graft.finite import require_finite_weights
from graft.network.architecture import described, reference_name
from graft.network.ema import trainable_parameters
from graft.network.match import fingerprint, matched
from graft.sharding import copy_into, full_tensor

if TYPE_CHECKING:
    from graft.module import GraftModule

    Reference = str | Path | nn.Module | Mapping[str, Tensor]
else:  # what a configuration can say
    Reference = str

MEMORY = "a network in memory"  # in the place of a path


def write_weights(module: "GraftModule", path: "str | Path", config: str = "") -> None:
    """Write what was trained (averaged, if there is an average), the domain's facts and how to load them.

    Of several processes all call this, for weights may be sharded, and the first one writes.

    Args:
        module: The model.
        path: The file.
        config: The run's configuration as YAML, of which `graft.network.architecture.described` keeps what is needed.

    Raises:
        NotFiniteError: A weight is not finite, on every process.
    """
    with module.eval_weights():
        tensors = {f"backbone/{name}": full_tensor(p.detach()).clone() for name, p in _own(module).items()}
    buffers = {f"backbone/{name}": b for name, b in _own_buffers(module).items()}
    require_finite_weights(tensors | buffers, f"{path} was not written", "lower model.learning_rate", buffers)
    if not is_rank_zero():
        return
    tensors |= buffers
    tensors |= {f"statistics/{name}": fact for name, fact in module.dataset_statistics.items()}
    note = {"reference": reference_name(module.reference_file, path), "level": module.level}
    files.write_tensors(path, tensors, note | described(module, config))


def read_weights(module: "GraftModule", path: "str | Path") -> None:
    """Load what `write_weights` wrote into the trained network.

    Raises:
        GraftError: They are another network's, or were tuned from another reference.
    """
    tensors, about = files.read_tensors(path)
    theirs, ours = about.get("reference"), module.reference_file
    if theirs and not (isinstance(theirs, dict) and all(isinstance(theirs.get(n), str) for n in ("path", "sha256"))):
        raise GraftError(f"{path} is damaged: what it says of its reference is no name and hash")
    if theirs and ours and theirs["sha256"] != ours["sha256"]:
        raise GraftError(
            f"{path} was tuned from another reference ({theirs['path']}, sha256 {theirs['sha256'][:12]}…) than "
            f"model.weights ({ours['path']}, sha256 {ours['sha256'][:12]}…): use the same one"
        )
    expected = _own(module) if theirs else dict(module.backbone.named_parameters())
    buffers = _own_buffers(module) if theirs else _buffers(module.backbone)
    _load(module.backbone, _under(tensors, "backbone"), path, expected, buffers)
    module.dataset_statistics |= _under(tensors, "statistics")
    if module.level_setting == "auto" and about.get("level") is not None:
        module.level = about["level"]


def read_reference(
    backbone: nn.Module, weights: "str | Path", prefix: "str | None" = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Load a reference's weights, by path or by name, into ``backbone``.

    Args:
        backbone: The network.
        weights: The file.
        prefix: Before the names of its tensors that are meant; see `graft.network.match.matched`.

    Returns:
        (the domain's facts, the file's path and hash).

    Raises:
        GraftError: They are another network's, or no reference's.
    """
    path = files.find_file(weights)
    tensors, about = files.load_state_dict(path)
    if about.get("reference"):
        raise GraftError(f"{weights} holds tuned weights, not a reference: give the file it was tuned from")
    own = _under(tensors, "backbone")
    _load(backbone, own, weights, dict(backbone.named_parameters()), _buffers(backbone), prefix)
    shipped = any(path.is_relative_to(root) for root in files.domain_roots())
    name = str(weights) if shipped else str(path.resolve())  # found from any folder
    hashed = fingerprint(own) if about.get("memory") else files.sha256(path)
    return _under(tensors, "statistics"), {"path": name, "sha256": hashed}


def take_reference(
    backbone: nn.Module, weights: "nn.Module | Mapping[str, Tensor]", prefix: "str | None" = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Load a reference's weights from memory into ``backbone``.

    Args:
        backbone: The network.
        weights: A network, or a state dict.
        prefix: Before the names of its tensors that are meant; see `graft.network.match.matched`.

    Returns:
        (the weights by the network's names, what stands for a file's path and hash).

    Raises:
        GraftError: They are another network's, or no tensors.
    """
    found = weights.state_dict() if isinstance(weights, nn.Module) else dict(weights)
    if odd := [name for name, tensor in found.items() if not isinstance(name, str) or not isinstance(tensor, Tensor)]:
        raise GraftError(f"model.weights has {odd[0]!r}, which is no tensor by its name; it must be a state dict")
    expected, buffers = dict(backbone.named_parameters()), _buffers(backbone)
    own = _load(backbone, found, "the network in memory", expected, buffers, prefix)
    own = {name: tensor.detach().cpu().clone() for name, tensor in own.items()}
    return own, {"path": MEMORY, "sha256": fingerprint(own)}


def keep_reference(module: "GraftModule", folder: Path) -> None:
    """Write a reference that was given in memory into a run's folder, so that a command finds it there.

    Of several processes all call this; the first one writes.
    """
    if module.in_memory is None or module.reference_file is None:
        return
    path = (folder / "checkpoints" / "reference.safetensors").resolve()
    if is_rank_zero():
        tensors = {f"backbone/{name}": tensor for name, tensor in module.in_memory.items()}
        files.write_tensors(path, tensors, {"memory": True})
    module.reference_file["path"] = str(path)


def is_reference(path: Path, sha256: Any) -> bool:
    """Return whether a file is the reference of that hash, as weights that were tuned from it note it.

    Raises:
        GraftError: The file is damaged.
    """
    if files.sha256(path) == sha256:
        return True
    if path.suffix != ".safetensors" or not files.load_state_dict(path)[1].get("memory"):
        return False
    return bool(fingerprint(_under(files.load_state_dict(path)[0], "backbone")) == sha256)


@torch.no_grad()
def interpolate(module: "GraftModule", share: float) -> None:
    """Put ``share`` · tuned + (1 − share) · reference in the place of the trained weights, averaged if there is one.

    Of an adapter it is the update that is scaled: one of its two factors.

    Raises:
        GraftError: There is no reference, or a corrector, whose weights have no counterpart in it.
        NotFiniteError: The share is so large that weights overflow.
    """
    if module.corrector is not None:
        raise GraftError("a corrector's weights cannot be mixed with a reference's: it is another network")
    if module.reference_file is None:
        raise GraftError("weights are mixed with those of a reference, and there is none: give model.weights")
    with module.eval_weights():
        tuned = {name: p.detach().clone() for name, p in trainable_parameters(module.backbone).items()}
    reference = dict(module.reference.named_parameters()) if module.reference is not None else {}
    mixed: dict[str, Tensor] = {}
    for name, weights in tuned.items():
        if name in reference:
            mixed[name] = torch.lerp(reference[name], weights, share)
        else:
            mixed[name] = weights * share if _second_factor(name) else weights
    if not all(bool(weights.isfinite().all()) for weights in mixed.values()):
        raise GraftError(f"--interpolate is {share:g}; it makes weights that are not finite. Take a smaller one")
    for name, parameter in trainable_parameters(module.backbone).items():
        parameter.copy_(mixed[name])


def _second_factor(name: str) -> bool:
    """The parameter is the B of an adapter's update B A, as peft names it."""
    return "lora_B" in name or "lora_embedding_B" in name


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(f"{prefix}/"): t for n, t in tensors.items() if n.startswith(f"{prefix}/")}


def _load(
    network: nn.Module,
    tensors: dict[str, Tensor],
    path: Any,
    expected: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    prefix: "str | None" = None,
) -> dict[str, Tensor]:
    """Put tensors into a network; what was put, by the network's names."""
    wanted = {**expected, **buffers}
    # A head that only training asks may be left out of the network: it makes no sample.
    auxiliary = tuple(getattr(network, "auxiliary", ()))
    tensors = {name: t for name, t in tensors.items() if name in wanted or not name.startswith(auxiliary)}
    own = matched(tensors, wanted, prefix, path, type(network).__name__)
    for name, tensor in own.items():  # before any is put
        if wanted[name].is_floating_point() and not tensor.is_floating_point():
            raise GraftError(
                f"{path} has {name} as {tensor.dtype}, which is {wanted[name].dtype} in {type(network).__name__}: give "
                "weights that are not quantised"
            )
    cast = ((name, tensor.to(wanted[name].dtype)) for name, tensor in own.items())
    require_finite_weights(cast, path, "give another file", buffers)
    for name, tensor in own.items():
        copy_into(wanted[name], tensor)
    return own


def _buffers(network: nn.Module) -> dict[str, Tensor]:
    """The buffers that a state dict has."""
    parameters = dict(network.named_parameters())
    return {name: tensor for name, tensor in network.state_dict().items() if name not in parameters}


def _own_buffers(module: "GraftModule") -> dict[str, Tensor]:
    """The buffers that are not the reference's: with an adapter none, for the reference is the same network."""
    adapter = module.reference_file is not None and module.reference is None
    return {} if adapter else _buffers(module.backbone)


def _own(module: "GraftModule") -> dict[str, nn.Parameter]:
    """The parameters of the network that are not the reference's: those that are trained, or all where it has none."""
    if module.reference_file is None or module.corrector is not None:
        return dict(module.backbone.named_parameters())
    return trainable_parameters(module.backbone)


def _frozen(module: "GraftModule") -> dict[str, Tensor]:
    """What checkpoints leave out: the reference, and what of the network is the reference's."""
    if module.reference_file is None:
        return {}
    own = _own(module)
    rest: dict[str, Tensor] = {}
    rest |= {f"backbone.{name}": p for name, p in module.backbone.named_parameters() if name not in own}
    if not _own_buffers(module):
        rest |= {f"backbone.{name}": buffer for name, buffer in _buffers(module.backbone).items()}
    copy = module.reference.state_dict() if module.reference is not None else {}
    return rest | {f"reference.{name}": tensor for name, tensor in copy.items()}


def drop_frozen(module: Any, state_dict: dict[str, Any], prefix: str, _: Any) -> None:
    """Keep out of a state dict what checkpoints leave out."""
    for name in _frozen(module):
        state_dict.pop(prefix + name, None)


def fill_frozen(module: Any, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Put it back before a state dict is loaded."""
    for name, tensor in _frozen(module).items():
        state_dict[prefix + name] = tensor.detach()
