"""ImageReward: how people rate a picture for its prompt."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from typing_extensions import override

from domains.images import pretrained
from domains.images.rewards.network import Dtype, NetworkReward
from domains.images.rewards.parts import find_file
from domains.images.rewards.score_head import score_head
from graft.errors import GraftError
from graft.io.json_files import parse_json

WEIGHTS, SETTINGS = "ImageReward.pt", "med_config.json"
MEAN, STD = 0.16717362830052426, 1.0333394966054072  # of the head's values on its training data, from its authors
MOST_TOKENS = 35
HEAD_WIDTH = 64  # of each attention head of BLIP's vision tower
PIXELS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # mean and deviation of CLIP

VISION_NAMES = [
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^norm\.", "post_layernorm."),
    (r"^blocks\.", "encoder.layers."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"\.attn\.qkv\.", ".self_attn.qkv."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
]
"""Names of BLIP's vision tower, as its authors save it, and those of transformers."""


class ImageReward(NetworkReward):
    """Rating of a picture for its prompt by a model of human comparisons; about standard normal.

    Xu et al. 2023, ImageReward, arXiv 2304.05977: BLIP's vision tower, its text encoder that attends to the patches,
    and a head on the first token. Prompts are cut at 35 tokens. The picture is scaled by its shorter side to 224 pixels
    and cropped in the middle.

    Model: ``ImageReward.pt`` with ``med_config.json`` of ``THUDM/ImageReward``,
    Apache-2.0 licence, 0.4 billion parameters; its tokens are those of ``google-bert/bert-base-uncased``, Apache-2.0
    licence.

    Args:
        model: Folder of the two files, or the name of their repository on the hub.
        tokenizer: Folder or name of the tokenizer.
        dtype: Type of BLIP's computation; the head computes in float32.
        device: Device of the model; a GPU if there is one, if not given.
        batch_size: Pictures at a time.
    """

    name = "ImageReward"

    def __init__(
        self,
        model: str = "THUDM/ImageReward",
        tokenizer: str = "google-bert/bert-base-uncased",
        dtype: Dtype = "float32",
        device: "str | None" = None,
        batch_size: int = 16,
    ) -> None:
        super().__init__(model, dtype, device, batch_size)
        self.tokenizer = tokenizer
        self._vision: Any = None
        self._text: Any = None
        self._head: Any = None
        self._tokens: Any = None
        self._image_processor: Any = None

    @override
    def load(self) -> list[nn.Module]:
        from transformers import CLIPImageProcessor
        from transformers.models.blip.modeling_blip import BlipVisionModel
        from transformers.models.blip.modeling_blip_text import BlipTextModel

        path = find_file(self.name, "the model", self.model, WEIGHTS)
        settings = _settings(find_file(self.name, "the text encoder's settings", self.model, SETTINGS))
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        vision = {_vision_name(n): t for n, t in _below(content, "blip.visual_encoder.").items()}
        text = _below(content, "blip.text_encoder.")
        text.pop("embeddings.position_ids", None)  # numbers that transformers makes itself
        what, dtype = f"the model {str(path)!r}", getattr(torch, self.dtype)
        for name, tensors in (("vision tower", vision), ("text encoder", text)):
            if not tensors:
                raise GraftError(f"{what} has no {name}: give the ImageReward.pt of its authors with data.reward.model")
        eyes, words = _vision_config(vision, what), _text_config(settings, vision, text)
        self._vision = pretrained.load_pretrained(
            BlipVisionModel, None, what, config=eyes, state_dict=vision, dtype=dtype
        )
        self._text = pretrained.load_pretrained(
            BlipTextModel, None, what, config=words, state_dict=text, dtype=dtype, add_pooling_layer=False
        )
        self._head = score_head(_below(content, "mlp."), words.hidden_size, f"the head of {what}")
        self._tokens = self.tokenizer_of(self.tokenizer, "tokenizer")
        size = eyes.image_size
        self._image_processor = CLIPImageProcessor(
            size={"shortest_edge": size},
            crop_size={"height": size, "width": size},
            image_mean=PIXELS[0],
            image_std=PIXELS[1],
        )
        return [self._vision, self._text, self._head]

    @override
    def values(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        pixels = self._image_processor(images=list(images), return_tensors="pt")["pixel_values"]
        patches = self._vision(pixels.to(self._device, self._vision.dtype)).last_hidden_state
        tokens = self._tokens(
            list(prompts), padding=True, truncation=True, max_length=MOST_TOKENS, return_tensors="pt"
        ).to(self._device)
        found = self._text(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            encoder_hidden_states=patches.to(self._text.dtype),
        ).last_hidden_state[:, 0]
        scores: Tensor = (self._head(found.float())[:, 0] - MEAN) / STD
        return scores


def _below(tensors: "Mapping[str, Tensor]", prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _vision_name(name: str) -> str:
    for old, new in VISION_NAMES:
        name = re.sub(old, new, name)
    return name


def _settings(path: Path) -> dict[str, Any]:
    try:
        found = parse_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise GraftError(f"{path} is damaged ({pretrained.first_line(error)}): fetch it again") from None
    if not isinstance(found, dict):
        raise GraftError(f"{path} holds no settings: fetch it again")
    return found


def _vision_config(tensors: "Mapping[str, Tensor]", what: str) -> Any:
    """Return the settings of the vision tower, from the shapes of its tensors."""
    from transformers import BlipVisionConfig

    try:
        width = tensors["embeddings.class_embedding"].shape[-1]
        patch = tensors["embeddings.patch_embedding.weight"].shape[-1]
        side = round((tensors["embeddings.position_embedding"].shape[1] - 1) ** 0.5)
        inner = len(tensors["encoder.layers.0.mlp.fc1.weight"])
    except KeyError as error:
        raise GraftError(f"{what} lacks {error} of its vision tower: fetch it again") from None
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layers.")),
        num_attention_heads=max(1, width // HEAD_WIDTH),
        image_size=side * patch,
        patch_size=patch,
        layer_norm_eps=1e-6,  # BLIP's authors made the tower with it
    )


def _text_config(settings: "Mapping[str, Any]", vision: "Mapping[str, Tensor]", text: "Mapping[str, Tensor]") -> Any:
    """Return the settings of the text encoder: those of its file, with the sizes of the weights."""
    from transformers import BlipTextConfig

    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings")
    own = {name: settings[name] for name in (*names, "hidden_act", "layer_norm_eps") if name in settings}
    words = text.get("embeddings.word_embeddings.weight")
    rows = len(words) if words is not None else settings.get("vocab_size", 30524)
    width = vision["embeddings.class_embedding"].shape[-1]
    return BlipTextConfig(**{"num_attention_heads": 12, **own}, vocab_size=rows, encoder_hidden_size=width)
