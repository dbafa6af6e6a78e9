"""Two small towers, of pictures and of captions, that score whether a caption describes a picture."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from domains.images.captioned.captions import BACKGROUNDS, COLOURS, OBJECTS, TEMPLATES
from graft.domain.feature_training import load_network, save_network

LENGTH = 10
"""Words of a caption; further ones are left out."""


class TwoTowers(nn.Module):
    """A convolutional network of pictures, and a recurrent network of captions.

    Args:
        words: Words of the captions; others are unknown.
        width: Channels of the first convolution.
        size: Size of the embeddings.
    """

    def __init__(self, words: Sequence[str], width: int = 16, size: int = 64) -> None:
        super().__init__()
        self.settings = {"words": list(words), "width": width, "size": size}
        self.index = {word: i + 2 for i, word in enumerate(words)}  # 0 is no word, 1 an unknown one
        self.words = nn.Embedding(len(words) + 2, size, padding_idx=0)
        self.order = nn.GRU(size, size, batch_first=True)
        self.picture = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.GroupNorm(4, 2 * width),
            nn.SiLU(),
            nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1),
            nn.GroupNorm(4, 4 * width),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(4 * width * 16, 2 * size),
            nn.SiLU(),
            nn.Linear(2 * size, size),
        )
        self.scale = nn.Parameter(torch.tensor(2.3))
        self.bias = nn.Parameter(torch.tensor(-6.0))

    def of_captions(self, texts: Sequence[str]) -> Tensor:
        """Return (n, size) embeddings of length 1 of captions."""
        rows = [[self.index.get(word, 1) for word in re.findall("[a-z]+", text.lower())][:LENGTH] for text in texts]
        lengths = torch.tensor([max(1, len(row)) for row in rows])
        tokens = torch.tensor([row + [0] * (LENGTH - len(row)) for row in rows])
        states, _ = self.order(self.words(tokens))
        return nn.functional.normalize(states[torch.arange(len(rows)), lengths - 1], dim=1)

    def of_pictures(self, pixels: Tensor) -> Tensor:
        """Return (n, size) embeddings of length 1 of (n, 3, H, W) pixels in [-1, 1]."""
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, 3, -1, -1)
        if pixels.shape[-2:] != (32, 32):
            pixels = nn.functional.interpolate(pixels, (32, 32), mode="bilinear", antialias=True)
        return nn.functional.normalize(self.picture(pixels), dim=1)

    @override
    def forward(self, pixels: Tensor, texts: Sequence[str]) -> Tensor:
        """Return (n, m) logits: how likely caption m describes picture n."""
        cosines = self.of_pictures(pixels) @ self.of_captions(texts).T
        return self.scale.exp() * cosines + self.bias

    def save(self, path: "str | Path", about: "dict[str, Any] | None" = None) -> None:
        """Write weights and settings."""
        save_network(self, path, "scorer", self.settings, about or {})


def known_words() -> list[str]:
    """Return the words of all captions."""
    plain = re.findall("[a-z]+", re.sub(r"\{\w+\}", " ", " ".join(TEMPLATES)))
    return sorted({*plain, "a", "an", *OBJECTS, *COLOURS, *BACKGROUNDS})


def load_scorer(path: "str | Path") -> TwoTowers:
    """Return a scorer from a file that `TwoTowers.save` wrote.

    Args:
        path: File, by path or by name.

    Raises:
        GraftError: There is no such file, or it holds no scorer.
    """
    missing = "holds no scorer of captions: train one with python -m domains.images.captioned.train_scorer"
    return load_network(path, "scorer", TwoTowers, missing)[0]
