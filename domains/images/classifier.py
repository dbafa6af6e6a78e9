"""A small classifier of pictures: its last layer but one makes features, its probabilities a reward.

The two that ship are trained by ``python -m domains.images.train_classifier``, see ``reference/CARD.md``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from domains.images.features import Features
from graft import files
from graft.errors import GraftError
from graft.finite import require_finite_network


class Network(nn.Module):
    """Three convolutions, two of them halving the picture, and a hidden layer whose outputs are the features.

    Args:
        channels: Of a picture.
        side: Pixels of a side that it takes; others are scaled to it.
        classes: Number of them.
        width: Channels of the first convolution.
        size: Of the features.
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
        """(B, size) of (B, channels, H, W) in [-1, 1]."""
        side, channels = self.settings["side"], self.settings["channels"]
        if pixels.shape[1] != channels:
            pixels = pixels.mean(1, keepdim=True).expand(-1, channels, -1, -1)
        if pixels.shape[-2:] != (side, side):
            pixels = nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
        return nn.functional.silu(self.hidden(self.convolutions(pixels)))

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, classes) logits."""
        return self.out(self.features(pixels))  # type: ignore[no-any-return]

    def save(self, path: "str | Path", names: Sequence[str], about: "dict[str, Any] | None" = None) -> None:
        """Write weights and settings."""
        note = {"classifier": {**self.settings, "names": list(names)}, **(about or {})}
        require_finite_network(self, f"{path} was not written", "lower learning_rate")
        files.write_tensors(path, dict(self.state_dict()), note)


def load(path: "str | Path") -> tuple[Network, list[str]]:
    """The classifier in a file that `Network.save` wrote, by path or by name, and the names of its classes.

    Raises:
        GraftError: There is none.
    """
    tensors, about = files.read_tensors(files.find_file(path))
    note = about.get("classifier")
    if not isinstance(note, dict):
        raise GraftError(f"{path} holds no classifier: train one with python -m domains.images.train_classifier")
    names = note.pop("names")
    network = Network(**note)
    network.load_state_dict(tensors)
    require_finite_network(network, path, "give another file")
    return network.requires_grad_(False).eval(), names


class ClassifierFeatures(Features):
    """Features of a small classifier.

    Args:
        weights: Of the classifier, by path or by name.
        batch_size: Pictures at a time.
    """

    def __init__(self, weights: str = "domains/images/reference/features.safetensors", batch_size: int = 256) -> None:
        super().__init__(batch_size)
        self.weights = weights
        self._network, self.names = load(weights)
        self.size, self.classes = self._network.settings["size"], self._network.settings["classes"]

    def of(self, pixels: Tensor) -> Tensor:
        """See `Features.of`."""
        return self._network.features(pixels)

    @torch.no_grad()
    def probabilities(self, images: Sequence[Image.Image]) -> Tensor:
        """(n, classes) of the pictures."""
        if not images:
            return torch.zeros(0, self.classes)
        return torch.softmax(self._network.out(self(images)), 1)
