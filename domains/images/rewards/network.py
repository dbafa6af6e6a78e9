"""Base of rewards by networks that are loaded once: of a picture and its prompt, or of a picture alone."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from typing_extensions import override

from domains.images.pretrained import first_line
from domains.images.rewards.base import require_finite_pixels
from domains.images.rewards.parts import cannot_load, load_part
from graft.core import limits
from graft.errors import GraftError
from graft.reward import Reward, Scores, score_batches, to_finite_float

Dtype = Literal["float32", "bfloat16", "float16"]


class NetworkReward(Reward):
    """A reward of each picture and its prompt (``info["prompt"]``) by networks.

    A picture without a prompt fails. `setup` loads the networks, and `teardown` moves them to the CPU, so that training
    has the device to itself.

    Attributes:
        needs_prompt: False for a reward of the picture alone; prompts are then empty texts.

    Args:
        model: Folder of the network, or its name on the hub.
        dtype: Type of the computation.
        device: Device of the network; a GPU if there is one, if not given.
        batch_size: Pictures at a time.
    """

    needs_prompt: bool = True

    def __init__(self, model: str, dtype: Dtype, device: "str | None", batch_size: int) -> None:
        limits.check("data.reward.batch_size", batch_size, 1)
        self.model, self.dtype, self.batch_size = model, dtype, batch_size
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._networks: list[torch.nn.Module] = []

    @abstractmethod
    def load(self) -> list[torch.nn.Module]:
        """Load and return the networks; a subclass also keeps its tokenizers here.

        It is called once.
        """

    @abstractmethod
    def values(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        """Return (n,) numbers of n pictures and their prompts.

        It is called without gradients and with the networks on the device.
        """

    def image_processor(self, name: str, setting: str = "processor") -> Any:
        """Return the preprocessing of pictures in a folder or on the hub.

        Args:
            name: Folder or name.
            setting: Setting of the reward with that name, for messages.

        Raises:
            GraftError: There is none.
        """
        from transformers import AutoImageProcessor

        return load_part(AutoImageProcessor, self.name, "the image processor", name, setting)

    def tokenizer_of(self, name: str, setting: str = "processor") -> Any:
        """Return the tokenizer in a folder or on the hub; see `image_processor`."""
        from transformers import AutoTokenizer

        return load_part(AutoTokenizer, self.name, "the tokenizer", name, setting)

    @override
    def setup(self) -> None:
        """Load the network and move it to the device.

        Raises:
            GraftError: The network cannot be loaded, or a package is missing.
        """
        if not self._networks:
            try:
                self._networks = [network.requires_grad_(False).eval() for network in self.load()]
            except ImportError as error:
                name = getattr(error, "name", None) or "transformers"
                raise GraftError(f"{self.name} needs {name}: pip install 'graft-diffusion[text-to-image]'") from None
            except GraftError:
                raise
            except Exception as error:  # the hub, the network and the files raise errors of many types
                raise cannot_load(self.name, "the model", self.model, "model", first_line(error)) from None
        for network in self._networks:
            network.to(self._device)

    @override
    def teardown(self) -> None:
        """Move the networks to the CPU."""
        for network in self._networks:
            network.to("cpu")

    @override
    def score(self, item: Any) -> float:
        return self._scores([item])[0]

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        rows = range(len(items))
        batches = (rows[start : start + self.batch_size] for start in range(0, len(items), self.batch_size))
        return score_batches(self, items, batches, self._scores)

    @torch.no_grad()
    def _scores(self, items: Sequence[Any]) -> list[float]:
        for item in items:
            require_finite_pixels(item)
            if self.needs_prompt and not item.info.get("prompt"):
                raise ValueError("the picture has no prompt")
        self.setup()
        images = [item.convert("RGB") for item in items]
        found = self.values(images, [str(item.info.get("prompt") or "") for item in items])
        return [to_finite_float(value) for value in found.float().tolist()]
