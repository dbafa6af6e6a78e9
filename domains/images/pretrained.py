"""Load models of diffusers and transformers, checked.

No tensor may be missing, and no adapter may be ignored.

Both libraries only warn if a file lacks tensors, and continue with random ones or with ones that have no values.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from graft.errors import GraftError

WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(?:\.(?P<variant>\w+))?(?:-\d+-of-\d+)?(?:\.(?P<old>\w+))?"
    r"\.(?:safetensors|bin)"
)
ADAPTERS = ("adapter_config.json", "pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin")
"""Files of adapters that the libraries ignore, or apply to a network without a message."""


def load_pretrained(kind: Any, folder: "str | Path | None", what: str, **given: Any) -> Any:
    """Return ``kind.from_pretrained(folder, **given)``.

    Args:
        kind: Class of diffusers or transformers.
        folder: Folder of the model, or a name on the hub; None for the ``config`` and ``state_dict`` of ``given``.
        what: Name of the model in messages, such as ``the unet of stable-diffusion-2-base``.
        **given: Arguments of ``from_pretrained``.

    Raises:
        GraftError: A tensor is missing, has another shape or no values, or an adapter is not fused.
    """
    with quiet():
        network, about = kind.from_pretrained(folder, output_loading_info=True, **given)
    unexpected, missing = sorted(about.get("unexpected_keys") or ()), sorted(about.get("missing_keys") or ())
    if any("lora_" in name or ".base_layer." in name for name in unexpected):
        raise GraftError(unfused(what))
    if about.get("mismatched_keys") or about.get("error_msgs"):
        raise GraftError(f"{what} has tensors of other shapes than its config.json says: fetch or save it again")
    if missing:
        raise GraftError(f"{what} lacks {len(missing)} of its tensors (first: {missing[0]}): fetch or save it again")
    check_values(network, what)
    return network


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def check_values(network: nn.Module, what: str) -> None:
    """Raise GraftError if a tensor has no values (it is on the meta device), or a weight's values are not finite."""
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_meta:
            raise GraftError(f"{what} has no values for {name}: fetch or save it again")
    for name, tensor in network.named_parameters():
        if tensor.is_floating_point() and not bool(tensor.detach().sum(dtype=torch.float32).isfinite()):
            raise GraftError(f"{what} has values in {name} that are not finite: fetch or save it again")


def unfused(what: str) -> str:
    """Return the message about a network that was saved with an adapter in it."""
    return (
        f"{what} was saved with a LoRA adapter that is not fused, which would be left out: call fuse_lora and "
        "unload_lora_weights before save_pretrained"
    )


def check_adapters(folders: "Iterable[Path]", weights: str) -> None:
    """Raise GraftError if an adapter's files lie in one of the folders."""
    for folder in folders:
        for name in ADAPTERS:
            if (folder / name).exists():
                raise GraftError(
                    f"{weights} has a LoRA adapter next to its weights ({folder.name}/{name}), which is not fused: "
                    "fuse it and save the pipeline again, or move it away"
                )


def variants(folder: Path) -> set[str]:
    """Return the variants of the weights in a model's folder; ``""`` is the one without a name."""
    found = (WEIGHTS.fullmatch(path.name) for path in folder.iterdir())
    return {match["variant"] or match["old"] or "" for match in found if match is not None}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence both libraries; their warnings become errors here.

    Progress bars are shown on terminals only.
    """
    from diffusers.utils import logging as ours

    parts: list[Any] = [ours]
    if "transformers" in sys.modules:
        from transformers.utils import logging as theirs

        parts.append(theirs)
    levels, bars = [part.get_verbosity() for part in parts], not sys.stderr.isatty()
    for part in parts:
        part.set_verbosity_error()
        if bars:
            part.disable_progress_bar()
    try:
        yield
    finally:
        for part, level in zip(parts, levels, strict=True):
            part.set_verbosity(level)
            if bars:
                part.enable_progress_bar()
