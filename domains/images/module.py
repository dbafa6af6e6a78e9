"""Images: the domain plugged into `graft.GraftModule`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from torchmetrics import Metric

from domains.images import files, grid, metrics
from domains.images.autoencoder import Autoencoder
from domains.images.data import ImageData
from domains.images.dataset.read import describe
from domains.images.dataset.read import read as read_pictures
from domains.images.features import Features, Pixels
from domains.images.keys import ImageKey, PixelHash, key_hash, key_hashes
from domains.images.pixels import check_channels, to_pil
from graft import GraftError, GraftModule, seeding
from graft.distance import frechet
from graft.distributed import rank_zero_print
from graft.process import Gaussian
from graft.rounds.sources import ScoredSet
from graft.state import Condition, State


class Images(GraftModule):
    """Pictures of one size: pixels in [-1, 1], or the latents of an autoencoder; with or without classes.

    The state is (B, C, H, W); the condition {"label": (B,)}, drawn as often as in the training data, or {"row": (B,)}
    zeros without classes. Objects are `PIL.Image.Image` with their label in ``info``.

    Args:
        classes: Number of classes that the network is told; ``null``: none.
        autoencoder: The state is its latents, and pictures are what it decodes; ``null``: the state is the pixels.
        features: What makes pictures alike, for metrics, distances and similarity; small grey pictures if not given.
        keys: What makes pictures duplicates; the same pixels if not given.
        real: Pictures that results are compared with (a folder, an .npz, ``digits``); those that the weights remember
            of their training data if not given.
        num_real_images: Training pictures, drawn at random, that weights trained on data carry.
        **kwargs: See `graft.GraftModule`.
    """

    file_suffix = ".npz"
    file_suffixes = (".npz", ".png", "")
    only_training = (
        *GraftModule.only_training,
        "real",
        "num_real_images",
    )  # what they give is among the facts of the weights

    def __init__(
        self,
        *args: Any,
        classes: "int | None" = None,
        autoencoder: "Autoencoder | None" = None,
        features: "Features | None" = None,
        keys: "ImageKey | None" = None,
        real: "str | None" = None,
        num_real_images: int = 2048,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if not isinstance(self.process, Gaussian) or len(self.process.shape) != 3:
            raise GraftError("pictures need a Gaussian process of shape [channels, height, width]")
        if autoencoder is None:
            check_channels(self.process.shape[0])
        if classes is not None and classes < 1:
            raise GraftError(f"model.classes is {classes}: give the number of classes, or null")
        self.classes, self.autoencoder, self.num_real_images = classes, autoencoder, num_real_images
        self.feature_extractor, self.keys = features or Pixels(), keys or PixelHash()
        if real is not None:
            self.dataset_statistics["images"] = self._some(self._read(real), num_real_images)

    def setup(self, stage: str) -> None:
        """Take the labels, the known keys and some pictures from the data when training on data."""
        data = getattr(self.trainer, "datamodule", None)
        if stage != "fit" or self.reference_file is not None or not isinstance(data, ImageData):
            return
        pixels, labels = data.training.pixels, data.training.labels
        assert isinstance(self.process, Gaussian)
        if self.autoencoder is None and pixels.shape[1:] != self.process.shape:
            raise GraftError(
                f"the pictures of {data.source!r} are {_told(pixels.shape[1:])} and the process's states "
                f"{_told(self.process.shape)} (channels x height x width): set data.size, data.channels or the shape"
            )
        if self.classes is not None:
            if labels is None:
                raise GraftError(f"model.classes is {self.classes}, but the pictures of {data.source!r} have no labels")
            if int(labels.max()) >= self.classes:
                raise GraftError(f"model.classes is {self.classes}, but {data.source!r} has label {int(labels.max())}")
            self.dataset_statistics["labels"] = torch.bincount(labels, minlength=self.classes)
        self.dataset_statistics["images"] = self._some(pixels, self.num_real_images)
        self.dataset_statistics["keys"] = torch.unique(key_hashes(map(self.keys, to_pil(pixels))))

    def sample_conditions(self, count: int, generator: Generator) -> Condition:
        """Labels as often as in the training data; all alike often where the weights do not say."""
        if self.classes is None:
            return {"row": torch.zeros(count)}
        often = self.dataset_statistics.get("labels", torch.ones(self.classes)).double()
        return {"label": torch.multinomial(often, count, replacement=True, generator=generator)}

    def group(self, condition: Condition) -> Tensor:
        """(B,) the label."""
        return condition["label"] if self.classes is not None else super().group(condition)

    def encode(self, batch: Any) -> tuple[State, Condition]:
        """State of a batch of `ImageData`: its pixels, or their latents."""
        pixels = batch["pixels"]
        condition = {"row": torch.zeros(len(pixels), device=pixels.device)}
        if self.classes is not None:
            condition = {"label": batch["label"]}
        return pixels if self.autoencoder is None else self.autoencoder.encode(pixels), condition

    def decode(self, state: State, condition: Condition) -> list[Any]:
        """Pictures of 8 bits a channel."""
        assert isinstance(state, Tensor)
        pixels = state if self.autoencoder is None else self.autoencoder.decode(state)
        if self.classes is None:
            return list(to_pil(pixels))
        return to_pil(pixels, [{"label": label} for label in condition["label"].tolist()])

    def key(self, item: Any) -> str:
        """See `keys`."""
        return self.keys(item)

    def in_training_set(self, keys: Sequence[str]) -> Tensor:
        """(n,) bool: the training data has the key."""
        if "keys" not in self.dataset_statistics:
            raise GraftError("these weights do not say what they were trained on: novelty needs the data's keys")
        return torch.isin(
            torch.tensor([key_hash(key) for key in keys], dtype=torch.long), self.dataset_statistics["keys"]
        )

    def features(self, items: Sequence[Any]) -> Tensor:
        """See `features.py`."""
        return self.feature_extractor(items)

    def distances(self) -> Mapping[str, Callable[[Tensor, Tensor], float]]:
        """The Fréchet distance, called FID where the features are a network's."""
        return {"fid": frechet} if self.feature_extractor.network else {"frechet": frechet}

    def metrics(self) -> Mapping[str, Metric]:
        """Distances to real pictures beside their floors, diversity, and what the classifier sees; see `metrics.py`."""
        return metrics.image_metrics(
            self.feature_extractor, self.dataset_statistics.get("images"), self.classes is not None
        )

    def read_scored(self, path: Path, score: str) -> ScoredSet:
        """Pictures of a CSV table with a column ``file`` and one of scores; see `files.read_scored`."""
        assert isinstance(self.process, Gaussian)
        found = files.read_scored(path, score, self.classes, self._kind)
        batch = {"pixels": found.pixels} | ({} if found.labels is None else {"label": found.labels})
        state, condition = self.encode(batch)
        return ScoredSet(state, condition, found.values, [self.keys(image) for image in found.images], found.left_out)

    def _read(self, source: str) -> Tensor:
        """(N, C, H, W) uint8 of a source, as the model makes them."""
        kind: Any = self._kind or (None, None, None)
        found = read_pictures(source, kind[1] if kind[1] == kind[2] else None, kind[0])
        if found.left_out or found.notes:
            rank_zero_print(describe(found, source))
        return torch.from_numpy(found.pixels).movedim(-1, 1)

    def _some(self, pixels: Tensor, most: int) -> Tensor:
        order = torch.randperm(len(pixels), generator=seeding.make_generator(self.seed, "remember"))
        return pixels[order[:most]].contiguous()

    @property
    def _kind(self) -> "tuple[int, ...] | None":
        """(C, H, W) that pictures must have; None where an autoencoder takes any."""
        assert isinstance(self.process, Gaussian)
        return self.process.shape if self.autoencoder is None else None

    def render(self, items: Sequence[Any], legends: "Sequence[str] | None" = None) -> bytes:
        """The pictures in a grid."""
        return grid.draw(items, legends=legends)

    def write(self, items: Sequence[Any], path: Path, rewards: "Sequence[float] | None" = None) -> None:
        """A folder of PNG files with a table, an .npz, or one picture of all."""
        files.write(items, path, rewards)


def _told(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
