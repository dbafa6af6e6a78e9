"""Text-to-image with diffusers."""

from domains.images.text.fused_lora import FusedLoRA
from domains.images.text.guidance import Guidance
from domains.images.text.module import TextToImage
from domains.images.text.pipeline import Memory

__all__ = ["FusedLoRA", "Guidance", "Memory", "TextToImage"]
