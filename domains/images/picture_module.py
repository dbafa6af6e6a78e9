"""The hooks that all domains of pictures share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from typing_extensions import override

from domains.images import files, grid
from domains.images.features import Features
from domains.images.keys import ImageKey
from graft import GraftModule


class PictureModule(GraftModule):
    """A model whose objects are `PIL.Image.Image`.

    Attributes:
        feature_extractor: Features for metrics, distances and similarity.
        keys: Key that defines duplicates.
    """

    file_suffix = ".npz"
    file_suffixes = (".npz", ".png", "")
    feature_extractor: Features
    keys: ImageKey

    @override
    def key(self, item: Any) -> str:
        return self.keys(item)

    @override
    def features(self, items: Sequence[Any]) -> Tensor:
        return self.feature_extractor(items)

    @override
    def render(self, items: Sequence[Any], legends: "Sequence[str] | None" = None) -> bytes:
        return grid.render_grid(items, legends=legends)

    @override
    def to_file(self, item: Any) -> tuple[str, bytes]:
        return files.to_file(item)

    @override
    def write(self, items: Sequence[Any], path: Path, rewards: "Sequence[float] | None" = None) -> None:
        """Write a folder of PNG files with a table, an ``.npz``, or a grid."""
        files.write_images(items, path, rewards)
