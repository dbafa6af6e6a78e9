"""Keys of a training set, kept as hashes, so that weights hold what novelty needs."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from graft.errors import GraftError


def key_hash(key: str) -> int:
    """Return a key as a signed 64-bit number, the same in every process.

    Two of 10⁶ keys collide with probability 3·10⁻⁸.
    """
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)


def key_hashes(keys: Iterable[str]) -> Tensor:
    """Return (K,) int64 hashes of the keys that are not empty.

    An empty key stands for an invalid object.
    """
    return torch.tensor([key_hash(key) for key in keys if key], dtype=torch.long)


class KeySet:
    """The distinct keys of a training set.

    Args:
        hashes: (K,) int64 `key_hashes`.
    """

    def __init__(self, hashes: Tensor) -> None:
        self.hashes = hashes

    @classmethod
    def of(cls, keys: Iterable[str]) -> "KeySet":
        """Return the set of the keys that are not empty."""
        return cls(torch.unique(key_hashes(keys)))

    @classmethod
    def from_statistics(cls, statistics: Mapping[str, Tensor]) -> "KeySet":
        """Return the set that a weights file holds under ``keys``.

        Raises:
            GraftError: The weights hold no keys.
        """
        if "keys" not in statistics:
            raise GraftError("these weights do not say what they were trained on: novelty needs the data's keys")
        return cls(statistics["keys"])

    def contains(self, keys: Sequence[str]) -> Tensor:
        """Return (n,) bool, True where the set has the key; False for an empty key."""
        hashes = torch.tensor([key_hash(key) for key in keys], dtype=torch.long)
        return torch.isin(hashes, self.hashes) & torch.tensor([key != "" for key in keys], dtype=torch.bool)
