"""Pipeline adapters: how a diffusers pipeline is called."""

from domains.images.text.adapters.base import Given, PipelineAdapter, PromptSettings
from domains.images.text.adapters.encoded import EncodedAdapter
from domains.images.text.adapters.recorded import RecordedAdapter
from domains.images.text.adapters.shipped import Flux, StableDiffusion, StableDiffusion3, StableDiffusionXL

__all__ = [
    "EncodedAdapter",
    "Flux",
    "Given",
    "PipelineAdapter",
    "PromptSettings",
    "RecordedAdapter",
    "StableDiffusion",
    "StableDiffusion3",
    "StableDiffusionXL",
    "default_adapter",
]


def default_adapter(pipeline: str) -> PipelineAdapter:
    """Return the adapter of a pipeline class: its own one, or `RecordedAdapter`."""
    own = (StableDiffusion, StableDiffusionXL, StableDiffusion3, Flux)
    return next((kind() for kind in own if pipeline in kind.pipelines), None) or RecordedAdapter()
