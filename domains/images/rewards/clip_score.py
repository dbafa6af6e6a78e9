"""CLIPScore: does the picture go with its prompt?"""

from torch import Tensor

from domains.images.rewards.clip import ClipCosine
from domains.images.rewards.prompted import Dtype


class CLIPScore(ClipCosine):
    """max(100 · cosine, 0) of CLIP's embeddings of picture and prompt (Hessel et al. 2021, without their factor 2.5).

    Model: ``openai/clip-vit-large-patch14``, MIT licence, 0.4 billion parameters.

    Args:
        model: See `ClipCosine`.
        processor: See `ClipCosine`.
        dtype: See `ClipCosine`.
        device: See `ClipCosine`.
        batch_size: See `ClipCosine`.
    """

    name = "CLIPScore"

    def __init__(
        self,
        model: str = "openai/clip-vit-large-patch14",
        processor: "str | None" = None,
        dtype: Dtype = "float32",
        device: "str | None" = None,
        batch_size: int = 16,
    ) -> None:
        super().__init__(model, processor, dtype, device, batch_size)

    def scaled(self, cosine: Tensor) -> Tensor:
        """See `ClipCosine.scaled`."""
        return (100 * cosine).clamp(min=0)
