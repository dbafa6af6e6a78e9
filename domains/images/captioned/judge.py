"""An independent judge of pictures: a classifier of their object, colour and background.

It evaluates samples and is never their reward. Its architecture, seed and held-out pairs differ from the scorer's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchmetrics import Metric
from typing_extensions import override

from domains.images.captioned.captions import BACKGROUNDS, COLOURS, OBJECTS, parse
from domains.images.features import Features
from graft.domain.feature_training import load_network, save_network
from graft.domain.metrics import Share

PARTS = {"object": tuple(OBJECTS), "colour": tuple(COLOURS), "background": tuple(BACKGROUNDS)}
"""Answers of the judge for each part of a caption."""


class _Residual(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, out, 3, stride=2, padding=1)
        self.second = nn.Conv2d(out, out, 3, padding=1)
        self.short = nn.Conv2d(width, out, 1, stride=2)
        self.norms = nn.ModuleList([nn.GroupNorm(4, width), nn.GroupNorm(4, out)])

    @override
    def forward(self, x: Tensor) -> Tensor:
        inner = self.first(nn.functional.relu(self.norms[0](x)))
        return self.short(x) + self.second(nn.functional.relu(self.norms[1](inner)))  # type: ignore[no-any-return]


class Judge(nn.Module):
    """A residual network with one head for each part of a caption.

    Args:
        width: Channels of the first convolution.
        size: Number of features.
    """

    def __init__(self, width: int = 12, size: int = 48) -> None:
        super().__init__()
        self.settings = {"width": width, "size": size}
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            _Residual(width, 2 * width),
            _Residual(2 * width, 4 * width),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(4 * width * 16, size),
            nn.Tanh(),
        )
        self.heads = nn.ModuleDict({part: nn.Linear(size, len(answers)) for part, answers in PARTS.items()})

    def features(self, pixels: Tensor) -> Tensor:
        """Return (n, size) features of (n, C, H, W) pixels in [-1, 1]."""
        if pixels.shape[1] == 1:
            pixels = pixels.expand(-1, 3, -1, -1)
        if pixels.shape[-2:] != (32, 32):
            pixels = nn.functional.interpolate(pixels, (32, 32), mode="bilinear", antialias=True)
        return self.body(pixels)  # type: ignore[no-any-return]

    @override
    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the logits of the answers, by part of the caption."""
        return self.answers(self.features(pixels))

    def answers(self, features: Tensor) -> dict[str, Tensor]:
        """Return the logits of the answers from features."""
        return {part: head(features) for part, head in self.heads.items()}

    def save(self, path: "str | Path", about: "dict[str, Any] | None" = None) -> None:
        """Write weights and settings."""
        save_network(self, path, "judge", self.settings, about or {})


def load_judge(path: "str | Path") -> Judge:
    """Return a judge from a file that `Judge.save` wrote.

    Args:
        path: File, by path or by name.

    Raises:
        GraftError: There is no such file, or it holds no judge.
    """
    missing = "holds no judge of captions: train one with python -m domains.images.captioned.train_judge"
    return load_network(path, "judge", Judge, missing)[0]


class JudgeFeatures(Features):
    """Features of the judge, with the shares of pictures that show what their prompts say.

    Args:
        weights: File of the judge, by path or by name.
        batch_size: Pictures at a time.
    """

    def __init__(
        self, weights: str = "domains/images/captioned/reference/judge.safetensors", batch_size: int = 256
    ) -> None:
        super().__init__(batch_size)
        self.weights = weights
        self._network = load_judge(weights)
        self.size = int(self._network.settings["size"])

    @override
    def of(self, pixels: Tensor) -> Tensor:
        return self._network.features(pixels)

    @torch.no_grad()
    def right(self, images: Sequence[Image.Image]) -> list[dict[str, bool]]:
        """Return for each picture which parts of its prompt the judge recognises."""
        found = {part: logits.argmax(1).tolist() for part, logits in self._network.answers(self(images)).items()}
        out = []
        for row, image in enumerate(images):
            wanted = vars(parse(image.info["prompt"]))
            out.append({part: PARTS[part][found[part][row]] == wanted[part] for part in PARTS if wanted[part]})
        return out

    @override
    def metrics(self) -> Mapping[str, Metric]:
        return {"recognised": Recognised(self), **{f"right_{part}": Recognised(self, part) for part in PARTS}}


class Recognised(Share):
    """Pictures in which the judge recognises the whole prompt, or one part of it / all pictures.

    Args:
        judge: Features of the judge.
        part: ``object``, ``colour`` or ``background``; all of them if not given.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    def __init__(self, judge: JudgeFeatures, part: "str | None" = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.judge, self.part = judge, part

    @override
    def update(self, images: "list[Any]") -> None:
        if not images:
            return
        right = self.judge.right(images)
        answers = [
            all(each.values()) if self.part is None else each[self.part] for each in right if _has(each, self.part)
        ]
        self.some += sum(answers)
        self.all += len(answers)


def _has(answers: dict[str, bool], part: "str | None") -> bool:
    return part is None or part in answers
