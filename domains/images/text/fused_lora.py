"""A LoRA adapter that exists as part of the reference."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domains.images.pretrained import check_values, first_line, quiet
from graft.errors import GraftError
from graft.io.checksum import checksum, file_checksum


@dataclass(frozen=True)
class FusedLoRA:
    """A LoRA adapter that is part of the reference: fused into the pipeline, and tuned further from there.

    Args:
        path: File or folder of the adapter, in a format that diffusers' ``load_lora_weights`` reads.
        scale: Factor of the adapter.
    """

    path: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise GraftError(f"model.fused_lora.scale is {self.scale}; it must be finite")


def fuse(pipe: Any, part: str, lora: FusedLoRA) -> str:
    """Fuse an adapter into a pipeline, and return the hash of its files.

    Args:
        pipe: Pipeline.
        part: Name of its denoiser.
        lora: The adapter.

    Raises:
        GraftError: There is no such adapter, it has nothing for the denoiser, or some of its tensors fit no layer.
    """
    path = Path(lora.path).expanduser()
    if not path.exists():
        raise GraftError(f"model.fused_lora.path is {lora.path!r}; it must be a file or folder of an adapter")
    if not hasattr(pipe, "fuse_lora") or not hasattr(getattr(pipe, part), "load_lora_adapter"):
        raise GraftError(f"model.fused_lora is set, and {type(pipe).__name__} loads no adapters; leave it out")
    place = str(path.parent if path.is_file() else path)
    given = {"weight_name": path.name} if path.is_file() else {}
    try:
        with quiet():
            there = pipe.lora_state_dict(place, **given)
            pipe.load_lora_weights(place, **given)
    except Exception as error:  # diffusers and peft raise errors of many types
        raise GraftError(f"model.fused_lora.path, {lora.path}, cannot be loaded: {first_line(error)}") from None
    if not getattr(getattr(pipe, part), "peft_config", None):
        raise GraftError(f"the adapter {lora.path} has nothing for the {part} of this pipeline")
    parts = [name for name in pipe._lora_loadable_modules if getattr(pipe, name, None) is not None]
    tensors = there[0] if isinstance(there, tuple) else there
    wanted = sum("lora" in name and not name.endswith("alpha") for name in tensors)
    found = sum("lora_" in name for each in parts for name, _ in getattr(pipe, each).named_parameters())
    if found < wanted:  # diffusers only warns
        raise GraftError(
            f"{wanted - found} of the {wanted} tensors of the adapter {lora.path} fit no layer of this pipeline: give "
            "an adapter that was made for it"
        )
    for each in parts:
        check_values(getattr(pipe, each), f"the adapter {lora.path} in the {each}")
    pipe.fuse_lora(components=parts, lora_scale=lora.scale)
    pipe.unload_lora_weights()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return checksum({file.name: file_checksum(file) for file in files})
