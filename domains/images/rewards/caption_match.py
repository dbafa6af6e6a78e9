"""Agreement of a picture and its prompt by the small scorer that ships."""

from collections.abc import Sequence

from PIL import Image
from torch import Tensor
from typing_extensions import override

from domains.images.captioned.scorer import load_scorer
from domains.images.rewards.base import TensorReward


class CaptionMatch(TensorReward):
    """Log odds that the prompt describes the picture (``info["prompt"]``), by two small towers.

    The scorer knows the captions of `domains.images.captioned`; it ignores other words.

    Args:
        weights: File of the scorer, by `domains.images.captioned.train_scorer`.
        batch_size: Pictures at a time.
    """

    name = "CaptionMatch"
    unit = "log odds"

    def __init__(
        self, weights: str = "domains/images/captioned/reference/scorer.safetensors", batch_size: int = 256
    ) -> None:
        super().__init__(batch_size)
        self.weights = weights
        self._network = load_scorer(weights)

    @override
    def values(self, pixels: Tensor, images: Sequence[Image.Image]) -> Tensor:
        """Return (n,) log odds.

        Raises:
            ValueError: A picture has no prompt.
        """
        texts = [str(image.info.get("prompt", "")) for image in images]
        if not all(texts):
            raise ValueError("the picture has no prompt")
        cosine = (self._network.of_pictures(pixels) * self._network.of_captions(texts)).sum(1)
        return self._network.scale.exp() * cosine + self._network.bias
