"""CLIPScore: agreement of a picture and its prompt."""

from torch import Tensor
from typing_extensions import override

from domains.images.rewards.clip import ClipCosine
from domains.images.rewards.network import Dtype


class CLIPScore(ClipCosine):
    """max(100 · cosine, 0) of CLIP's embeddings of picture and prompt.

    The score is that of Hessel et al. 2021, with the factor 100 in place of their 2.5. The default model has the MIT
    licence and 0.4 billion parameters.

    Args:
        model: Folder of a CLIP model of transformers, or its name on the hub.
        processor: Folder or name of the tokenizer and preprocessing; the model's if not given.
        dtype: Type of the computation.
        device: Device of the model; a GPU if there is one, if not given.
        batch_size: Pictures at a time.
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

    @override
    def scaled(self, cosine: Tensor) -> Tensor:
        return (100 * cosine).clamp(min=0)
