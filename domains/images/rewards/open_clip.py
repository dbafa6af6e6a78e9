"""The tensors of a CLIP model of OpenCLIP under the names of transformers."""

import re
from collections.abc import Mapping

from torch import Tensor

RENAMED = {
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",  # transformers spells it so
    "visual.ln_post": "vision_model.post_layernorm",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "logit_scale": "logit_scale",
}
TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
WITHIN = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")


def to_transformers(tensors: "Mapping[str, Tensor]") -> dict[str, Tensor]:
    """Return the tensors that a `transformers.CLIPModel` has, by its names; others are left out.

    OpenCLIP keeps queries, keys and values in one tensor, and projections as (in, out).
    """
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if (match := BLOCK.fullmatch(name)) is not None:
            tower = "vision_model" if match[1] else "text_model"
            found |= _of_block(f"{tower}.encoder.layers.{match[2]}", match[3], tensor)
        elif name in TRANSPOSED:
            found[TRANSPOSED[name]] = tensor.T.contiguous()
        else:
            stem, _, last = name.rpartition(".")
            if name in RENAMED:
                found[RENAMED[name]] = tensor
            elif stem in RENAMED:
                found[f"{RENAMED[stem]}.{last}"] = tensor
    return found


def _of_block(block: str, name: str, tensor: Tensor) -> dict[str, Tensor]:
    if name in ("attn.in_proj_weight", "attn.in_proj_bias"):
        kind = name.rpartition("_")[2]
        parts = zip("qkv", tensor.chunk(3), strict=True)
        return {f"{block}.self_attn.{part}_proj.{kind}": each.contiguous() for part, each in parts}
    stem, _, kind = name.rpartition(".")
    return {f"{block}.{WITHIN[stem]}.{kind}": tensor} if stem in WITHIN else {}
