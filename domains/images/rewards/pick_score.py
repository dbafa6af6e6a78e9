"""PickScore: which of the pictures of a prompt would people pick?"""

from torch import Tensor

from domains.images.rewards.clip import ClipCosine
from domains.images.rewards.prompted import Dtype


class PickScore(ClipCosine):
    """exp(logit scale) · cosine of a CLIP model tuned on people's choices (Kirstain et al. 2023, Pick-a-Pic).

    Differences between pictures of one prompt are log odds of the choice; between prompts they say little.

    Model: ``yuvalkirstain/PickScore_v1``, MIT licence, 1 billion parameters; its preprocessing is that of
    ``laion/CLIP-ViT-H-14-laion2B-s32B-b79K``, MIT licence.

    Args:
        model: See `ClipCosine`.
        processor: See `ClipCosine`.
        dtype: See `ClipCosine`.
        device: See `ClipCosine`.
        batch_size: See `ClipCosine`.
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

    def scaled(self, cosine: Tensor) -> Tensor:
        """See `ClipCosine.scaled`."""
        scale: Tensor = self._clip.logit_scale.float().exp()
        return scale * cosine
