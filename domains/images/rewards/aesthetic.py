"""Aesthetic score of a picture, without a prompt."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from typing_extensions import override

from domains.images.rewards.network import Dtype, NetworkReward
from domains.images.rewards.parts import find_file, load_network
from domains.images.rewards.score_head import score_head


class AestheticScore(NetworkReward):
    """LAION's predicted rating of a picture, about 1 to 10, from CLIP's embedding.

    Schuhmann 2022, improved-aesthetic-predictor: linear layers on the normalised embedding of CLIP ViT-L/14, trained on
    people's ratings (SAC, logos, AVA). The picture's prompt does not count.

    Model: ``aesthetic-model.pth`` of ``trl-lib/ddpo-aesthetic-predictor``, which is
    ``sac+logos+ava1-l14-linearMSE.pth`` of the original repository, Apache-2.0 licence; CLIP is
    ``openai/clip-vit-large-patch14``, MIT licence, 0.3 billion parameters.

    Args:
        model: File of the head, its folder, or the name of its repository on the hub.
        file: Name of the head's file in the folder or repository.
        vision: Folder of a CLIP model of transformers, or its name on the hub.
        processor: Folder or name of the preprocessing; that of ``vision`` if not given.
        dtype: Type of CLIP's computation; the head computes in float32.
        device: Device of the model; a GPU if there is one, if not given.
        batch_size: Pictures at a time.
    """

    name = "aesthetic score"
    needs_prompt = False

    def __init__(
        self,
        model: str = "trl-lib/ddpo-aesthetic-predictor",
        file: str = "aesthetic-model.pth",
        vision: str = "openai/clip-vit-large-patch14",
        processor: "str | None" = None,
        dtype: Dtype = "float32",
        device: "str | None" = None,
        batch_size: int = 16,
    ) -> None:
        super().__init__(model, dtype, device, batch_size)
        self.file, self.vision, self.processor = file, vision, processor or vision
        self._tower: Any = None
        self._head: Any = None
        self._image_processor: Any = None

    @override
    def load(self) -> list[nn.Module]:
        from transformers import CLIPVisionModelWithProjection

        path = find_file(self.name, "the head", self.model, self.file)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        dtype = getattr(torch, self.dtype)
        self._tower = load_network(
            CLIPVisionModelWithProjection, self.name, "the vision tower", self.vision, "vision", dtype=dtype
        )
        self._head = score_head(tensors, self._tower.config.projection_dim, f"the head {str(path)!r}")
        self._image_processor = self.image_processor(self.processor)
        return [self._tower, self._head]

    @override
    def values(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        pixels = self._image_processor(images=list(images), return_tensors="pt")["pixel_values"]
        embeds = self._tower(pixels.to(self._device, self._tower.dtype)).image_embeds.float()
        scores: Tensor = self._head(nn.functional.normalize(embeds, dim=-1))[:, 0]
        return scores
