"""Sources of pictures as uint8 arrays: digits, folders, npz and idx files."""

from domains.images.dataset.read import Pictures, read

__all__ = ["Pictures", "read"]
