"""A single file in the layout of Stability's code loads as the pipeline that it was made from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from domains.images.text import TextToImage, kohya
from graft import GraftError

RESNET = {value: value.replace("_layers_", "_layers.") for value in kohya.RESNET.values()}
OUTER = {"conv_norm_out": "out.0", "conv_in": "input_blocks.0.0", "conv_out": "out.2"}


def unet_name(name: str, config: Any) -> str:
    layer, _, kind = name.rpartition(".")
    found = kohya.stability_name(layer, config)
    for ours, theirs in RESNET.items():
        found = re.sub(rf"\b{ours}$", theirs, found)
    return f"model.diffusion_model.{found}.{kind}"


def vae_name(name: str, blocks: int) -> str:
    name = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", name)
    for way, new in (("resnets", "block"), ("upsamplers.0", "upsample")):
        name = re.sub(rf"up_blocks\.(\d+)\.{way}", lambda m, new=new: f"up.{blocks - 1 - int(m[1])}.{new}", name)
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("conv_shortcut", "nin_shortcut")
    for ours, theirs in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        name = name.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
    return "first_stage_model." + name.replace("conv_norm_out", "norm_out")


def written(pipe: Any, path: Path) -> Path:
    """The pipeline's tensors in one file, by Stability's names."""
    found = {unet_name(name, pipe.unet.config): value for name, value in pipe.unet.state_dict().items()}
    for name, value in pipe.vae.state_dict().items():
        flat = ".attentions." in name and "weight" in name and value.ndim == 2
        found[vae_name(name, len(pipe.vae.config.block_out_channels))] = value[..., None, None] if flat else value
    for name, value in pipe.text_encoder.state_dict().items():
        prefix = "" if name.startswith("text_model.") else "text_model."
        found[f"cond_stage_model.transformer.{prefix}{name}"] = value
    save_file({name: value.contiguous() for name, value in found.items()}, path)
    return path


def test_single_file(pipelines: dict[str, Path], folder: Path) -> None:
    pipe: Any = StableDiffusionPipeline.from_pretrained(pipelines["eps"])
    file = written(pipe, folder / "one.safetensors")
    settings: dict[str, Any] = {"steps": 4, "single_file_config": str(pipelines["eps"])}
    one, whole = (
        TextToImage(str(file), "prompts.txt", **settings),
        TextToImage(str(pipelines["eps"]), "prompts.txt", steps=4),
    )
    x, time = torch.randn(2, 4, tiny.SIZE, tiny.SIZE), torch.tensor([10.0, 700.0])
    condition = {"prompt": torch.tensor([0, 2])}
    with torch.no_grad():
        a, b = (each.policy.backbone(x, time, condition) for each in (one, whole))
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(one._pipeline.decode(x), whole._pipeline.decode(x))
    assert one._pipeline.path == str(file) and one._pipeline.sha256 != whole._pipeline.sha256
    tensors = load_file(file)
    del tensors["model.diffusion_model.out.2.weight"]
    save_file(tensors, folder / "less.safetensors")
    with pytest.raises(GraftError, match=r"the unet of .* has no values for conv_out.weight|cannot be loaded"):
        TextToImage(str(folder / "less.safetensors"), "prompts.txt", **settings)
