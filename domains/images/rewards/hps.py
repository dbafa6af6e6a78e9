"""HPSv2: which picture of a prompt people prefer."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from typing_extensions import override

from domains.images import pretrained
from domains.images.rewards.clip import ClipCosine
from domains.images.rewards.network import Dtype
from domains.images.rewards.open_clip import to_transformers
from domains.images.rewards.parts import find_file, load_part
from graft.errors import GraftError

FILES = {"2.0": "HPS_v2_compressed.pt", "2.1": "HPS_v2.1_compressed.pt"}


class HPSv2(ClipCosine):
    """Cosine of picture and prompt in a CLIP model tuned on human preferences, about 0.2 to 0.35.

    Wu et al. 2023, Human Preference Score v2, arXiv 2306.09341. The picture is scaled to the model's size by its longer
    side and padded with black, as in their code.

    Model: ``HPS_v2.1_compressed.pt`` or ``HPS_v2_compressed.pt`` of ``xswu/HPSv2``, Apache-2.0 licence, 1 billion
    parameters, in the format of OpenCLIP's ViT-H-14. Its settings and tokens are those of
    ``laion/CLIP-ViT-H-14-laion2B-s32B-b79K``, MIT licence.

    Args:
        model: File of the weights, its folder, or the name of its repository on the hub.
        version: Version of the weights.
        processor: Folder or name of a CLIP model of transformers, for its ``config.json``, tokenizer and preprocessing.
        dtype: Type of the computation.
        device: Device of the model; a GPU if there is one, if not given.
        batch_size: Pictures at a time.
    """

    def __init__(
        self,
        model: str = "xswu/HPSv2",
        version: Literal["2.0", "2.1"] = "2.1",
        processor: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        dtype: Dtype = "float32",
        device: "str | None" = None,
        batch_size: int = 16,
    ) -> None:
        super().__init__(model, processor, dtype, device, batch_size)
        if version not in FILES:
            raise GraftError(f"data.reward.version is {version!r}; it must be one of {', '.join(FILES)}")
        self.version, self.name = version, f"HPSv{version}"

    @override
    def load(self) -> list[nn.Module]:
        from transformers import CLIPConfig, CLIPModel

        path = find_file(self.name, "the model", self.model, FILES[self.version])
        config = load_part(CLIPConfig, self.name, "CLIP's settings", self.processor, "processor")
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        tensors = content.get("state_dict", content)
        what, dtype = f"the model {str(path)!r}", getattr(torch, self.dtype)
        self._clip = pretrained.load_pretrained(
            CLIPModel, None, what, config=config, state_dict=to_transformers(tensors), dtype=dtype
        )
        self._tokenizer = self.tokenizer_of(self.processor)
        self._image_processor = self.image_processor(self.processor)
        return [self._clip]

    @override
    def values(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        size = self._clip.config.vision_config.image_size
        return super().values([padded(image, size) for image in images], prompts)


def padded(image: Image.Image, size: int) -> Image.Image:
    """Return the picture scaled to ``size`` by its longer side, in the middle of a black square."""
    scale = size / max(image.size)
    wide, high = (max(1, round(side * scale)) for side in image.size)
    if (wide, high) != image.size:
        image = image.resize((wide, high), Image.Resampling.BICUBIC)
    if wide == high:
        return image
    canvas = Image.new("RGB", (size, size))
    canvas.paste(image, ((size - wide) // 2, (size - high) // 2))
    return canvas
