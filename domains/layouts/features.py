"""Features of layouts, by a network trained to tell real layouts from disturbed ones.

As in LayoutGAN++ (Kikuchi et al. 2021) it is a transformer over the elements and one more token; the features are the
token's output. A head predicts real or disturbed from the features, and a decoder rebuilds the elements, so that the
features describe the whole layout. This network is smaller, and its file holds only the encoder.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from domains.layouts.conditioning import to_state
from domains.layouts.layout import Layout
from domains.layouts.metrics.elements import LayoutBatch
from graft.domain.feature_training import load_network, save_network
from graft.errors import GraftError
from graft.io.checksum import checksum
from graft.io.paths import find_file

CHUNK = 512  # layouts at a time
SHIPPED = "domains/layouts/reference/features.safetensors"


class Encoder(nn.Module):
    """Elements to features: labels (B, N), boxes (B, N, 4) and mask (B, N) to (B, width).

    The order of the elements has no effect.

    Args:
        names: Names of the classes.
        width: Number of features.
        layers: Number of layers of the transformer.
        heads: Number of attention heads.
    """

    def __init__(self, names: Sequence[str], width: int = 64, layers: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.names, self.width, self.layers, self.heads = tuple(names), width, layers, heads
        self.label = nn.Embedding(len(self.names), width)
        self.box = nn.Linear(8, width)
        self.join = nn.Sequential(nn.GELU(), nn.Linear(width, width))
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, batch_first=True, norm_first=True)
        self.transformer = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    @override
    def forward(self, labels: Tensor, boxes: Tensor, mask: Tensor) -> Tensor:
        """Return (B, width) features; boxes are left, top, right, bottom, fractions of the page."""
        x = self.join(self.label(labels) + self.box(torch.cat([boxes, to_state(boxes)], -1)))
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        absent = nn.functional.pad(mask == 0, (1, 0))
        out: Tensor = self.transformer(x, src_key_padding_mask=absent)[:, 0]
        return out

    def save(self, path: str, about: "dict[str, Any]") -> None:
        """Write the weights, the settings, and ``about`` as further entries of the header."""
        settings = {"names": list(self.names), "width": self.width, "layers": self.layers, "heads": self.heads}
        save_network(self, path, "network", settings, about)


@functools.cache
def load_encoder(path: str = SHIPPED) -> Encoder:
    """Return the encoder of a file that `Encoder.save` wrote; the shipped one if not given.

    Raises:
        GraftError: There is no such file, or it holds no encoder.
    """
    missing = "holds no feature network of layouts: train one with domains.layouts.train_features"
    return load_network(path, "network", Encoder, missing)[0]


def network_of(names: tuple[str, ...], path: "str | None" = None) -> "Encoder | None":
    """Return the feature network of layouts of these classes, or None.

    Args:
        names: Names of the classes, in the order of the labels.
        path: File of a user's network; None for the shipped one.

    Returns:
        None if the shipped network has other classes.

    Raises:
        GraftError: The user's network has other classes, or the file holds no feature network.
    """
    if path is None:
        shipped = load_encoder()
        return shipped if shipped.names == names else None
    own = load_encoder(str(find_file(path).resolve()))
    if own.names != names:
        raise GraftError(
            f"model.features is {path}, a network of the classes {', '.join(own.names)}, but the model's are "
            f"{', '.join(names)}: train one of these with domains.layouts.train_features"
        )
    return own


def network_fingerprint(network: Encoder) -> Tensor:
    """Return (1,) int64, a hash of the network's weights.

    Distances are comparable within the features of one network only.
    """
    digest = bytes.fromhex(checksum(dict(network.state_dict())))
    return torch.tensor([int.from_bytes(digest[:8], "big", signed=True)])


def pad_layouts(items: Sequence[Layout], most: "int | None" = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return (labels (B, N), boxes (B, N, 4), mask (B, N)) of layouts, for networks.

    Args:
        items: Layouts.
        most: Number of elements N; None for that of the largest layout.
    """
    pages = LayoutBatch.of(items)
    pages = pages if most is None else pages.pad_to(most)
    return pages.labels.clamp(min=0), pages.boxes.float(), pages.mask.float()


@torch.no_grad()
def layout_features(items: Sequence[Layout], network: "Encoder | None" = None) -> Tensor:
    """Return (n, width) features of layouts.

    Args:
        items: Layouts.
        network: Feature network; the shipped one if not given.
    """
    if network is None:
        network = load_encoder()
    out = torch.zeros(len(items), network.width)
    for start in range(0, len(items), CHUNK):
        out[start : start + CHUNK] = network(*pad_layouts(items[start : start + CHUNK]))
    return out
