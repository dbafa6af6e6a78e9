"""The image domain: a `graft.GraftModule` of pictures."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torchmetrics import Metric
from typing_extensions import override

from domains.images import metrics, scored_files
from domains.images.autoencoder import Autoencoder
from domains.images.data import ImageData, read_tensor
from domains.images.features import Features, Pixels
from domains.images.keys import ImageKey, PixelHash
from domains.images.picture_module import PictureModule
from domains.images.pixels import check_channels, to_pil
from graft import GraftError, GraftModule
from graft.core import limits, seeding
from graft.core.datatypes import ScoredSet
from graft.core.state import Condition, State
from graft.dataloaders.in_memory import pretraining_data
from graft.domain.distance import frechet
from graft.domain.training_set import KeySet
from graft.process import CosineSchedule, Gaussian, Process
from graft.runs.architecture import require_network


class Images(PictureModule):
    """Pictures of one size: pixels in [-1, 1], or the latents of an autoencoder.

    The state is (B, C, H, W). The condition is {"label": (B,)}, with the frequencies of the training data, or {"row":
    (B,)} of zeros without classes. Objects are `PIL.Image.Image` with their label in ``info``.

    Args:
        backbone: Network, as in `graft.GraftModule`.
        process: Process, a `graft.process.Gaussian` of shape (channels, height, width); ``null`` without weights:
            `default_process`.
        classes: Number of classes in the condition; ``null`` for none.
        autoencoder: Autoencoder of the latents that are the state; ``null`` if the state is the pixels.
        features: Features for metrics, distances and similarity; small grey pictures if not given.
        keys: Key that defines duplicates; equal pixels if not given.
        real: Real pictures for comparison (a folder, an .npz, ``digits``); training pictures in the weights if not
            given.
        num_real_images: Number of training pictures, chosen at random, that weights trained on data hold.
        **kwargs: Arguments of `graft.GraftModule`.
    """

    # weights hold the pictures and keys that these settings select
    only_training = (*GraftModule.only_training, "real", "num_real_images")

    def __init__(
        self,
        backbone: "nn.Module | None" = None,
        process: "Process | None" = None,
        *args: Any,
        classes: "int | None" = None,
        autoencoder: "Autoencoder | None" = None,
        features: "Features | None" = None,
        keys: "ImageKey | None" = None,
        real: "str | None" = None,
        num_real_images: int = 2048,
        **kwargs: Any,
    ) -> None:
        weights = args[0] if args else kwargs.get("weights")
        default = None if backbone is None else partial(self.default_process, backbone)
        backbone, process = require_network(backbone, process, weights, default)
        super().__init__(backbone, process, *args, **kwargs)
        if not isinstance(self.policy.process, Gaussian) or len(self.policy.process.shape) != 3:
            raise GraftError("pictures need a Gaussian process of shape [channels, height, width]")
        if autoencoder is None:
            check_channels(self.policy.process.shape[0])
        limits.check("model.classes", classes, 1)
        self.classes, self.autoencoder, self.num_real_images = classes, autoencoder, num_real_images
        self.feature_extractor, self.keys = features or Pixels(), keys or PixelHash()
        if real is not None:
            self.dataset_statistics["images"] = self._some(self._read(real), num_real_images)

    @staticmethod
    def default_process(backbone: Any = None) -> Gaussian:
        """Return a diffusion process of square states with the size and channels of the network.

        Args:
            backbone: A network of diffusers, or its ``class_path`` and ``init_args``.

        Raises:
            GraftError: The network does not state the size and channels of its states.
        """
        settings = backbone.get("init_args") if isinstance(backbone, Mapping) else getattr(backbone, "config", None)
        size, channels = ((settings or {}).get(name) for name in ("sample_size", "in_channels"))
        if not isinstance(size, int) or not isinstance(channels, int):
            raise GraftError(
                "the network does not state its sample_size and in_channels as numbers, which give the process its "
                "shape: give model.process"
            )
        return Gaussian(CosineSchedule(), "v", (channels, size, size))

    @override
    def setup(self, stage: str) -> None:
        """Take labels, keys and some pictures from the data in pre-training."""
        data = pretraining_data(self, ImageData, stage)
        if data is None:
            return
        pixels, labels = data.train_set.pixels, data.train_set.labels
        assert isinstance(self.policy.process, Gaussian)
        if self.autoencoder is None and pixels.shape[1:] != self.policy.process.shape:
            raise GraftError(
                f"the pictures of {data.source!r} are {_by(pixels.shape[1:])} and the process's states "
                f"{_by(self.policy.process.shape)} (channels x height x width): set data.size, data.channels or "
                "the shape"
            )
        if self.classes is not None:
            if labels is None:
                raise GraftError(f"model.classes is {self.classes}, but the pictures of {data.source!r} have no labels")
            if int(labels.max()) >= self.classes:
                raise GraftError(f"model.classes is {self.classes}, but {data.source!r} has label {int(labels.max())}")
            self.dataset_statistics["labels"] = torch.bincount(labels, minlength=self.classes)
        self.dataset_statistics["images"] = self._some(pixels, self.num_real_images)
        self.dataset_statistics["keys"] = KeySet.of(map(self.keys, to_pil(pixels))).hashes

    @override
    def sample_conditions(self, count: int, generator: Generator) -> Condition:
        """Return labels with the frequencies of the training data; equal ones if they are not known."""
        if self.classes is None:
            return {"row": torch.zeros(count)}
        often = self.dataset_statistics.get("labels", torch.ones(self.classes)).double()
        return {"label": torch.multinomial(often, count, replacement=True, generator=generator)}

    @override
    def group(self, condition: Condition) -> Tensor:
        """Return (B,) label."""
        return condition["label"] if self.classes is not None else super().group(condition)

    @override
    def encode(self, batch: Any) -> tuple[State, Condition]:
        """Return the state of a batch of `ImageData`: its pixels, or their latents."""
        pixels = batch["pixels"]
        condition = {"row": torch.zeros(len(pixels), device=pixels.device)}
        if self.classes is not None:
            condition = {"label": batch["label"]}
        return pixels if self.autoencoder is None else self.autoencoder.encode(pixels), condition

    @override
    def decode(self, state: State, condition: Condition) -> list[Any]:
        """Return pictures of 8 bits a channel."""
        assert isinstance(state, Tensor)
        pixels = state if self.autoencoder is None else self.autoencoder.decode(state)
        if self.classes is None:
            return list(to_pil(pixels))
        return to_pil(pixels, [{"label": label} for label in condition["label"].tolist()])

    @override
    def in_training_set(self, keys: Sequence[str]) -> Tensor:
        return KeySet.from_statistics(self.dataset_statistics).contains(keys)

    @override
    def distances(self) -> Mapping[str, Callable[[Tensor, Tensor], float]]:
        """Return the Fréchet distance, called FID for features of a network."""
        return {"fid": frechet} if self.feature_extractor.network else {"frechet": frechet}

    @override
    def metrics(self) -> Mapping[str, Metric]:
        """Return distances to real pictures with their floors, diversity, and shares of classes."""
        real, labelled = self.dataset_statistics.get("images"), self.classes is not None
        return metrics.image_metrics(self.feature_extractor, real, labelled, self._kind is None or self._kind[0] > 1)

    @override
    def read_scored(self, path: Path, score: str) -> ScoredSet:
        """Read a CSV table with a column ``file`` and a column of scores (`scored_files`)."""
        assert isinstance(self.policy.process, Gaussian)
        found = scored_files.read_scored(path, score, self.classes, self._kind)
        batch = {"pixels": found.pixels} | ({} if found.labels is None else {"label": found.labels})
        state, condition = self.encode(batch)
        return ScoredSet(state, condition, found.values, [self.keys(image) for image in found.images], found.left_out)

    def _read(self, source: str) -> Tensor:
        """Return (N, C, H, W) uint8 pictures of a source, in the model's size."""
        kind: Any = self._kind or (None, None, None)
        return read_tensor(source, kind[1] if kind[1] == kind[2] else None, kind[0])

    def _some(self, pixels: Tensor, most: int) -> Tensor:
        order = torch.randperm(len(pixels), generator=seeding.make_generator(self.seed, "remember"))
        return pixels[order[:most]].contiguous()

    @property
    def _kind(self) -> "tuple[int, ...] | None":
        """Return (C, H, W) that pictures must have; None for any, with an autoencoder."""
        assert isinstance(self.policy.process, Gaussian)
        return self.policy.process.shape if self.autoencoder is None else None

    @override
    def caption(self, item: Any) -> str:
        """Return the class of a picture."""
        return f"class {item.info['label']}" if "label" in item.info else ""


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
