"""What makes layouts alike: features of a network that learned to tell real layouts from disturbed ones.

As in LayoutGAN++ (Kikuchi et al. 2021): a transformer over the elements and one more token, whose output is the
features of the layout; from them a head says real or disturbed, and a decoder rebuilds the elements, so that the
features know all of the layout. Ours is smaller, and what ships is the part that makes the features.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from domains.layouts.conditioning import to_state
from domains.layouts.layout import Layout
from graft import files
from graft.errors import GraftError
from graft.finite import require_finite_network

SHIPPED = "domains/layouts/reference/features.safetensors"


class Encoder(nn.Module):
    """Elements to features, in no order: labels (B, N), boxes (B, N, 4) and mask (B, N) to (B, width).

    Args:
        names: Of the classes.
        width: Of the features.
        layers: Of the transformer.
        heads: Of its attention.
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

    def forward(self, labels: Tensor, boxes: Tensor, mask: Tensor) -> Tensor:
        """Boxes are left, top, right, bottom, fractions of the page."""
        x = self.join(self.label(labels) + self.box(torch.cat([boxes, to_state(boxes)], -1)))
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        absent = nn.functional.pad(mask == 0, (1, 0))
        out: Tensor = self.transformer(x, src_key_padding_mask=absent)[:, 0]
        return out

    def save(self, path: str, about: "dict[str, Any]") -> None:
        """Write the weights, with what they are of."""
        note = {"names": list(self.names), "width": self.width, "layers": self.layers, "heads": self.heads}
        require_finite_network(self, f"{path} was not written", "lower learning_rate")
        files.write_tensors(path, dict(self.state_dict()), {"network": note, **about})


@functools.cache
def encoder(path: str = SHIPPED) -> Encoder:
    """The encoder of a file that `Encoder.save` wrote; the one that ships.

    Raises:
        GraftError: There is none.
    """
    tensors, about = files.read_tensors(files.find_file(Path(path)))
    try:
        network = Encoder(**about["network"])
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError):
        raise GraftError(
            f"{path} holds no feature network of layouts: train one with domains.layouts.train_features"
        ) from None
    require_finite_network(network, path, "give another file")
    return network.requires_grad_(False).eval()


def network_of(names: tuple[str, ...], path: "str | None" = None) -> "Encoder | None":
    """Return the feature network of layouts of these classes: the one that ships, or a user's own.

    Args:
        names: Of the classes, in the order of the labels.
        path: File of a user's own; None: the one that ships.

    Returns:
        None where the one that ships is of other classes.

    Raises:
        GraftError: The user's own is of other classes, or no feature network.
    """
    if path is None:
        shipped = encoder()
        return shipped if shipped.names == names else None
    own = encoder(str(files.find_file(path).resolve()))
    if own.names != names:
        raise GraftError(
            f"model.features is {path}, a network of the classes {', '.join(own.names)}, but the model's are "
            f"{', '.join(names)}: train one of these with domains.layouts.train_features"
        )
    return own


def fingerprint(network: Encoder) -> Tensor:
    """Return (1,) int64, a hash of the network's weights: distances hold within the features of one network."""
    digest = bytes.fromhex(files.hash_tensors(dict(network.state_dict())))
    return torch.tensor([int.from_bytes(digest[:8], "big", signed=True)])


def pad_layouts(items: Sequence[Layout], most: "int | None" = None) -> tuple[Tensor, Tensor, Tensor]:
    """(labels (B, N), boxes (B, N, 4), mask (B, N)) of layouts, for networks."""
    size = max([len(item) for item in items] + [1]) if most is None else most
    labels = torch.zeros(len(items), size, dtype=torch.long)
    boxes, mask = torch.zeros(len(items), size, 4), torch.zeros(len(items), size)
    for i, item in enumerate(items):
        labels[i, : len(item)] = torch.from_numpy(item.labels)
        boxes[i, : len(item)] = torch.from_numpy(item.boxes).float()
        mask[i, : len(item)] = 1
    return labels, boxes, mask


@torch.no_grad()
def features(items: Sequence[Layout], network: "Encoder | None" = None, chunk: int = 512) -> Tensor:
    """(n, width) features of layouts."""
    if network is None:
        network = encoder()
    out = torch.zeros(len(items), network.width)
    for start in range(0, len(items), chunk):
        out[start : start + chunk] = network(*pad_layouts(items[start : start + chunk]))
    return out
