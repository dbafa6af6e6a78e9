"""Where pictures come from: scikit-learn's digits, folders, npz and idx arrays; all as uint8 arrays."""

from domains.images.dataset.read import Pictures, read

__all__ = ["Pictures", "read"]
