"""Pictures: pixel and latent diffusion or flow models on diffusers' networks."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from domains.images.module import Images

__all__ = ["Images"]


def __getattr__(name: str) -> Any:
    """Return ``Images``, imported at first use (PEP 562), since scoring needs no Lightning."""
    if name != "Images":
        raise AttributeError(f"module 'domains.images' has no attribute {name!r}")
    from domains.images.module import Images

    return Images
