"""Sources of pictures as uint8 arrays: digits, folders, npz and idx files."""

from domains.images.dataset.read import Pictures, read_pictures

__all__ = ["Pictures", "read_pictures"]
