"""Probability of a class by a classifier."""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from typing_extensions import override

from domains.images.classifier import load_classifier
from domains.images.rewards.base import TensorReward
from graft.errors import GraftError


class ClassProbability(TensorReward):
    """Probability of a class by a classifier, or its logarithm in nats.

    The shipped classifier is another network than the one that makes the features for evaluation.

    Args:
        target: Class; ``null`` for the ``label`` of each picture.
        log: Return the logarithm, which still differs between pictures with probabilities near 1.
        weights: File of the classifier, by `domains.images.train_classifier`.
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
        self._network, names = load_classifier(weights)
        if target is not None and not 0 <= target < len(names):
            raise GraftError(f"the classifier {weights} has the classes 0 to {len(names) - 1}, not {target}")
        of = "its class" if target is None else names[target]
        self.name, self.unit = f"{'log ' if log else ''}probability of {of}", "nats" if log else ""

    @override
    def values(self, pixels: Tensor, images: Sequence[Image.Image]) -> Tensor:
        """Return (n,) probabilities.

        Raises:
            ValueError: A picture has no label and there is no target.
        """
        target = [self._target(image) for image in images]
        found = torch.log_softmax(self._network(pixels), 1)[torch.arange(len(images)), torch.tensor(target)]
        return found if self.log else found.exp()

    def _target(self, image: Image.Image) -> int:
        if self.target is not None:
            return self.target
        if "label" not in image.info:
            raise ValueError("the picture has no label: give the reward a target")
        return int(image.info["label"])
