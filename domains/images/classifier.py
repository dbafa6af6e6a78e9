"""A small classifier of pictures: its hidden layer makes features.

Its probabilities are a reward.

``python -m domains.images.train_classifier`` trains the two that ship (``reference/CARD.md``).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from typing_extensions import override

from domains.images.features import Features
from graft.domain.feature_training import load_network, save_network


class Network(nn.Module):
    """Three convolutions, two of which halve the picture, and a hidden layer with the features.

    Args:
        channels: Channels of a picture.
        side: Side of a picture in pixels; others are scaled to it.
        classes: Number of classes.
        width: Channels of the first convolution.
        size: Number of features.
    """

    def __init__(self, channels: int = 1, side: int = 8, classes: int = 10, width: int = 24, size: int = 64) -> None:
        super().__init__()
        self.settings = {"channels": channels, "side": side, "classes": classes, "width": width, "size": size}
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.GroupNorm(4, width),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1, stride=2),
            nn.GroupNorm(4, 2 * width),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1, stride=2),
            nn.GroupNorm(4, 2 * width),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(min(4, -(-side // 4))),
            nn.Flatten(),
        )
        self.hidden = nn.Linear(2 * width * min(4, -(-side // 4)) ** 2, size)
        self.out = nn.Linear(size, classes)

    def features(self, pixels: Tensor) -> Tensor:
        """Return (B, size) features of (B, channels, H, W) pixels in [-1, 1]."""
        side, channels = self.settings["side"], self.settings["channels"]
        if pixels.shape[1] != channels:
            pixels = pixels.mean(1, keepdim=True).expand(-1, channels, -1, -1)
        if pixels.shape[-2:] != (side, side):
            pixels = nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        return nn.functional.silu(self.hidden(self.convolutions(pixels)))

    @override
    def forward(self, pixels: Tensor) -> Tensor:
        return self.out(self.features(pixels))  # type: ignore[no-any-return]

    def save(self, path: "str | Path", names: Sequence[str], about: "dict[str, Any] | None" = None) -> None:
        """Write weights and settings."""
        save_network(self, path, "classifier", {**self.settings, "names": list(names)}, about or {})


def load_classifier(path: "str | Path") -> tuple[Network, list[str]]:
    """Return a classifier and the names of its classes from a file that `Network.save` wrote.

    Args:
        path: File, by path or by name.

    Raises:
        GraftError: There is no such file, or it holds no classifier.
    """
    missing = "holds no classifier: train one with python -m domains.images.train_classifier"
    network, settings = load_network(path, "classifier", lambda names, **sizes: Network(**sizes), missing)
    return network, settings["names"]


class ClassifierFeatures(Features):
    """Features of a small classifier.

    Args:
        weights: File of the classifier, by path or by name.
        batch_size: Pictures at a time.
    """

    def __init__(self, weights: str = "domains/images/reference/features.safetensors", batch_size: int = 256) -> None:
        super().__init__(batch_size)
        self.weights = weights
        self._network, self.names = load_classifier(weights)
        self.size, self.classes = self._network.settings["size"], self._network.settings["classes"]

    @override
    def of(self, pixels: Tensor) -> Tensor:
        return self._network.features(pixels)

    @torch.no_grad()
    def probabilities(self, images: Sequence[Image.Image]) -> Tensor:
        """Return (n, classes) probabilities of the pictures."""
        if not images:
            return torch.zeros(0, self.classes)
        return torch.softmax(self._network.out(self(images)), 1)
