"""How sure a classifier is of a class."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from domains.images.classifier import load
from domains.images.rewards.base import TensorReward
from graft.errors import GraftError


class ClassProbability(TensorReward):
    """The probability, or its logarithm in nats, that a classifier gives to a class.

    The classifier that ships is another one than that whose features judge results.

    Args:
        target: The class; ``null``: the one that each picture was drawn for (its ``label``).
        log: The logarithm, which still tells pictures apart where all are near 1.
        weights: Of the classifier, see `domains.images.train_classifier`.
        batch_size: Pictures at a time.
    """

    def __init__(
        self,
        target: "int | None" = None,
        log: bool = False,
        weights: str = "domains/images/reference/classifier.safetensors",
        batch_size: int = 256,
    ) -> None:
        super().__init__(batch_size)
        self.target, self.log, self.weights = target, log, weights
        self._network, names = load(weights)
        if target is not None and not 0 <= target < len(names):
            raise GraftError(f"the classifier {weights} has the classes 0 to {len(names) - 1}, not {target}")
        of = "its class" if target is None else names[target]
        self.name, self.unit = f"{'log ' if log else ''}probability of {of}", "nats" if log else ""

    def values(self, pixels: Tensor, images: Sequence[Image.Image]) -> Tensor:
        """See `TensorReward.values`; a picture without a label fails where that is asked for."""
        target = [self._target(image) for image in images]
        found = torch.log_softmax(self._network(pixels), 1)[torch.arange(len(images)), torch.tensor(target)]
        return found if self.log else found.exp()

    def _target(self, image: Image.Image) -> int:
        if self.target is not None:
            return self.target
        if "label" not in image.info:
            raise ValueError("the picture was drawn for no class: give the reward a target")
        return int(image.info["label"])
