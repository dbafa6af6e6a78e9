"""Adapters that encode a prompt and call the denoiser themselves."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from domains.images.text.adapters.base import (
    Given,
    PipelineAdapter,
    PromptedNetwork,
    PromptSettings,
    eight_bits,
    size_of,
)

if TYPE_CHECKING:
    from domains.images.text.pipeline import Pipeline


class EncodedAdapter(PipelineAdapter):
    """A pipeline of latents (C, H, W), called as its own ``__call__`` calls it.

    A subclass defines how a prompt is encoded and how the denoiser is called.
    """

    @abstractmethod
    def encode(self, pipe: Any, prompt: str, device: torch.device) -> Given:
        """Return the embedding of a prompt."""

    @abstractmethod
    def negative(self, pipe: Any, prompt: "str | None", device: torch.device) -> Given:
        """Return the embedding of a negative prompt; None for the pipeline's own."""

    @abstractmethod
    def call(self, network: nn.Module, x: Tensor, time: Tensor, given: Given, guidance: float) -> Tensor:
        """Return the network's output.

        Args:
            network: Denoiser.
            x: (B, C, H, W) latents.
            time: (B,) times in the units of the scheduler's ``timesteps``.
            given: Embeddings, (B, ...) each, and ``size``: height and width, upper left corner, target's size.
            guidance: Guidance scale, for networks that were distilled with guidance.
        """

    @override
    def latent_shape(self, pipe: Any, settings: PromptSettings) -> tuple[int, int, int]:
        network = getattr(pipe, self.part)
        factor = int(pipe.vae_scale_factor)
        height, width = size_of(pipe, network, self.part, settings)
        channels = self.channels(network)
        assert channels is not None
        return (channels, height // factor, width // factor)

    @override
    def pixels(self, pipe: Any, settings: PromptSettings) -> tuple[int, int]:
        return size_of(pipe, getattr(pipe, self.part), self.part, settings)

    @override
    def denoiser(self, pipeline: "Pipeline", settings: PromptSettings) -> PromptedNetwork:
        from domains.images.text.denoiser import Denoiser, PromptEmbeddings

        texts = PromptEmbeddings(pipeline, self, settings)
        return Denoiser(pipeline, self, texts, settings.guidance)

    @override
    def call_settings(self, pipe: Any, settings: PromptSettings) -> dict[str, Any]:
        guidance = settings.guidance
        found: dict[str, Any] = {"guidance_scale": guidance.guidance_scale}
        found |= {"negative_prompt": guidance.negative_prompt} if guidance.negative_prompt is not None else {}
        height, width = self.pixels(pipe, settings)
        return {**found, "height": height, "width": width}

    @override
    def decode(self, pipeline: "Pipeline", latents: Tensor) -> Tensor:
        vae = pipeline.pipe.vae
        config = vae.config
        dtype = vae.dtype
        upcast = dtype == torch.float16 and config.get("force_upcast", False)
        if upcast:
            vae.to(torch.float32)  # the VAE overflows in float16
        with pipeline.on(latents.device, self.decoders):
            mean, std = config.get("latents_mean"), config.get("latents_std")
            x = latents / config.scaling_factor
            if mean is not None and std is not None:
                mean, std = (torch.tensor(value).view(1, -1, 1, 1).to(x) for value in (mean, std))
                x = latents * std / config.scaling_factor + mean
            elif config.get("shift_factor") is not None:
                x = x + config.shift_factor
            image = vae.decode(x.to(vae.dtype), return_dict=False)[0]
        if upcast:
            vae.to(dtype)
        return eight_bits(image.float() * 0.5 + 0.5)
