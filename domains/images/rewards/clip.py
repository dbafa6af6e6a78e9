"""Cosines of pictures and prompts in the space of a CLIP model."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from typing_extensions import override

from domains.images.rewards.network import Dtype, NetworkReward
from domains.images.rewards.parts import load_network


class ClipCosine(NetworkReward):
    """A multiple of the cosine between the embeddings of a picture and its prompt.

    Prompts are cut at 77 tokens.

    Args:
        model: Folder of a CLIP model of transformers, or its name on the hub.
        processor: Folder or name of the tokenizer and preprocessing; the model's if not given.
        dtype: Type of the computation.
        device: Device of the model; a GPU if there is one, if not given.
        batch_size: Pictures at a time.
    """

    def __init__(
        self,
        model: str,
        processor: "str | None" = None,
        dtype: Dtype = "float32",
        device: "str | None" = None,
        batch_size: int = 16,
    ) -> None:
        super().__init__(model, dtype, device, batch_size)
        self.processor = processor or model
        self._clip: Any = None
        self._tokenizer: Any = None
        self._image_processor: Any = None

    @override
    def load(self) -> list[torch.nn.Module]:
        from transformers import CLIPModel

        dtype = getattr(torch, self.dtype)
        self._clip = load_network(CLIPModel, self.name, "the model", self.model, "model", dtype=dtype)
        self._tokenizer = self.tokenizer_of(self.processor)
        self._image_processor = self.image_processor(self.processor)
        return [self._clip]

    @override
    def values(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        length = self._clip.config.text_config.max_position_embeddings
        tokens = self._tokenizer(
            list(prompts), padding=True, truncation=True, max_length=length, return_tensors="pt"
        ).to(self._device)
        pixels = self._image_processor(images=list(images), return_tensors="pt")["pixel_values"]
        found = self._clip(
            input_ids=tokens["input_ids"],
            attention_mask=tokens["attention_mask"],
            pixel_values=pixels.to(self._device, self._clip.dtype),
        )
        cosine = (found.image_embeds * found.text_embeds).sum(-1).float()  # both embeddings have length 1
        return self.scaled(cosine)

    def scaled(self, cosine: Tensor) -> Tensor:
        """Return the reward of a cosine."""
        return cosine
