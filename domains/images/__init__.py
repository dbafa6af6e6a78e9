"""Pictures: pixel and latent diffusion or flow models on diffusers' networks."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from domains.images.module import Images

__all__ = ["Images"]


def __getattr__(name: str) -> Any:
    """Import the module when it is asked for: a process that scores needs no Lightning (PEP 562)."""
    if name != "Images":
        raise AttributeError(f"module 'domains.images' has no attribute {name!r}")
    from domains.images.module import Images

    return Images
