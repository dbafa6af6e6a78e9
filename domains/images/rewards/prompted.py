"""Rewards of a picture and the prompt it was drawn for, by networks that are loaded once and wait in memory."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from domains.images.rewards.base import check
from graft.errors import GraftError
from graft.reward import Reward, Scores, to_finite_float

Dtype = Literal["float32", "bfloat16", "float16"]


class PromptReward(Reward):
    """A number of each picture and its prompt (``info["prompt"]``). A picture without one fails and is not scored.

    The network is loaded when the reward is opened, and waits in the processor's memory when it is closed, so that
    training has the device to itself.

    Args:
        model: Folder of the network, or its name on the hub.
        dtype: That it computes in.
        device: Where; a graphics processor if there is one, if not given.
        batch_size: Pictures at a time.
    """

    def __init__(self, model: str, dtype: Dtype, device: "str | None", batch_size: int) -> None:
        if batch_size < 1:
            raise GraftError(f"data.reward.batch_size is {batch_size}, but it is at least 1")
        self.model, self.dtype, self.batch_size = model, dtype, batch_size
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._networks: list[torch.nn.Module] = []

    @abstractmethod
    def load(self) -> list[torch.nn.Module]:
        """The networks; whatever else is needed is kept by the way. Called once."""

    @abstractmethod
    def values(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Tensor:
        """(n,) of n pictures and their prompts, within ``no_grad``, with the networks on the device."""

    def setup(self) -> None:
        """Load the network, and put it on the device.

        Raises:
            GraftError: It cannot be had, or a package is missing.
        """
        if not self._networks:
            try:
                self._networks = [network.requires_grad_(False).eval() for network in self.load()]
            except ImportError as error:
                name = getattr(error, "name", None) or "transformers"
                raise GraftError(f"{self.name} needs {name}: pip install 'graft-diffusion[text-to-image]'") from None
            except GraftError:
                raise
            except Exception as error:  # of the hub, of the network, of the files
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise GraftError(
                    f"{self.name} cannot load {self.model!r} ({first}): give the folder of its files with "
                    "data.reward.model, or a connection to the hub"
                ) from None
        for network in self._networks:
            network.to(self._device)

    def teardown(self) -> None:
        """Give the device back."""
        for network in self._networks:
            network.to("cpu")

    def score(self, item: Any) -> float:
        """See `graft.reward.Reward.score`."""
        return self._scores([item])[0]

    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every picture; where a batch raises, one by one, so that a failure costs only what it is due to."""
        scores = Scores([float("nan")] * len(items))
        for start in range(0, len(items), self.batch_size):
            part = items[start : start + self.batch_size]
            try:
                scores.values[start : start + len(part)] = self._scores(part)
            except GraftError:
                raise
            except Exception:
                alone = super().__call__(part)
                scores.values[start : start + len(part)] = alone.values
                scores.failures |= {start + i: why for i, why in alone.failures.items()}
        return scores

    @torch.no_grad()
    def _scores(self, items: Sequence[Any]) -> list[float]:
        for item in items:
            check(item)
            if not item.info.get("prompt"):
                raise ValueError("the picture was drawn for no prompt")
        self.setup()
        images = [item.convert("RGB") for item in items]
        found = self.values(images, [str(item.info["prompt"]) for item in items])
        return [to_finite_float(value) for value in found.float().tolist()]
