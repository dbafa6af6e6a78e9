"""Pictures: pixel and latent diffusion or flow models on diffusers' networks."""

from domains.images.module import Images

__all__ = ["Images"]
