"""The adapter of a UNet in the key format of kohya's tools, which ComfyUI reads."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

RESNET = {
    "norm1": "in_layers_0",
    "conv1": "in_layers_2",
    "time_emb_proj": "emb_layers_1",
    "norm2": "out_layers_0",
    "conv2": "out_layers_3",
    "conv_shortcut": "skip_connection",
}
"""Layers of a ResNet block: their names in diffusers, and in Stability's code, which SDXL's keys follow."""


def keys(adapter: Mapping[str, Tensor], config: Any, stability: bool) -> dict[str, Tensor]:
    """Return the adapter by kohya's keys: ``lora_unet_LAYER.lora_down.weight``, ``.lora_up.weight`` and ``.alpha``.

    alpha is the rank, since the adapter's scale is multiplied into its weights.

    Args:
        adapter: Tensors by diffusers' names, ``LAYER.lora_A.weight`` and ``LAYER.lora_B.weight``.
        config: Configuration of the UNet.
        stability: Name blocks as Stability's code does (SDXL); diffusers' names are kohya's for SD 1.x and 2.x.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in adapter.items():
        layer, _, rest = name.rpartition(".lora_")
        short = (stability_name(layer, config) if stability else layer).replace(".", "_")
        half = "lora_down" if rest.startswith("A") else "lora_up"
        found[f"lora_unet_{short}.{half}.weight"] = tensor
        if half == "lora_down":
            found[f"lora_unet_{short}.alpha"] = torch.tensor(float(tensor.shape[0]))
    return found


def stability_name(layer: str, config: Any) -> str:
    """Return the name of a layer of diffusers' UNet in Stability's code.

    Args:
        layer: Name in diffusers.
        config: Configuration of the UNet.
    """
    count = int(config.layers_per_block)
    if match := re.fullmatch(r"mid_block\.attentions\.0\.(.+)", layer):
        return f"middle_block.1.{match[1]}"
    if match := re.fullmatch(r"mid_block\.resnets\.(\d+)\.(.+)", layer):
        return f"middle_block.{2 * int(match[1])}.{_resnet(match[2])}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d+)\.(attentions|resnets|downsamplers|upsamplers)\.(\d+)\.(.+)", layer)
    if match is None:
        outer = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"}
        outer |= {"add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2"}
        outer |= {"conv_in": "input_blocks.0.0", "conv_out": "out.2", "conv_norm_out": "out.0"}
        return outer[layer]
    way, block, kind, place, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
    first = 1 + block * (count + 1) if way == "down" else block * (count + 1)
    side = "input_blocks" if way == "down" else "output_blocks"
    if kind == "downsamplers":
        return f"{side}.{first + count}.0.op"
    if kind == "upsamplers":
        with_attention = "CrossAttn" in config.up_block_types[block]
        return f"{side}.{first + count}.{2 if with_attention else 1}.conv"
    return f"{side}.{first + place}.{1 if kind == 'attentions' else 0}.{_resnet(rest) if kind == 'resnets' else rest}"


def _resnet(rest: str) -> str:
    return RESNET[rest]
