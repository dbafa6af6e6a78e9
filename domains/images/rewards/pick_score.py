"""PickScore: how likely people pick a picture among those of a prompt."""

from torch import Tensor
from typing_extensions import override

from domains.images.rewards.clip import ClipCosine
from domains.images.rewards.network import Dtype


class PickScore(ClipCosine):
    """exp(logit scale) · cosine of a CLIP model tuned on human choices.

    Kirstain et al. 2023, Pick-a-Pic. Differences between pictures of one prompt are log odds of the choice; differences
    between prompts mean little.

    Model: ``yuvalkirstain/PickScore_v1``, MIT licence, 1 billion parameters; its preprocessing is that of
    ``laion/CLIP-ViT-H-14-laion2B-s32B-b79K``, MIT licence.

    Args:
        model: Folder of a CLIP model of transformers, or its name on the hub.
        processor: Folder or name of the tokenizer and preprocessing.
        dtype: Type of the computation.
        device: Device of the model; a GPU if there is one, if not given.
        batch_size: Pictures at a time.
    """

    name = "PickScore"

    def __init__(
        self,
        model: str = "yuvalkirstain/PickScore_v1",
        processor: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        dtype: Dtype = "float32",
        device: "str | None" = None,
        batch_size: int = 16,
    ) -> None:
        super().__init__(model, processor, dtype, device, batch_size)

    @override
    def scaled(self, cosine: Tensor) -> Tensor:
        scale: Tensor = self._clip.logit_scale.float().exp()
        return scale * cosine
