"""The contract of a pipeline adapter."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from domains.images.text.guidance import Guidance
from graft.errors import GraftError

if TYPE_CHECKING:
    from domains.images.text.pipeline import Pipeline

Given = dict[str, Tensor]
"""Embedding of prompts: tensors of one row for each prompt."""


@dataclass(frozen=True)
class PromptSettings:
    """The settings of a run that its pipeline depends on: prompts, guidance and size.

    Attributes:
        prompts: All prompts.
        guidance: Classifier-free guidance.
        height: Height of the pictures in pixels; None for that of the training.
        width: Width of the pictures in pixels; None for that of the training.
    """

    prompts: Sequence[str]
    guidance: Guidance
    height: "int | None" = None
    width: "int | None" = None


class PromptStore:
    """Cache of the denoiser's inputs for each prompt, computed at first use.

    Attributes:
        pipeline: Pipeline with the text encoders.
        calls: Number of prompts that were encoded.
        device: Device of the last call.
    """

    def __init__(self, pipeline: "Pipeline") -> None:
        self.pipeline, self.calls, self.device = pipeline, 0, torch.device("cpu")

    def __deepcopy__(self, _: Any) -> "PromptStore":
        return self  # the reference's copy shares the text encoders


class PromptedNetwork(nn.Module):
    """A network (latents (B, ...), time (B,), {"prompt": (B,)}) -> output, guided by the prompts.

    Index −1 is the negative prompt, and the key ``alone`` of the condition turns guidance off.

    Args:
        network: Denoiser of the pipeline.
        texts: Store of the prompts.
        guidance: Strength of the guidance.
    """

    def __init__(self, network: nn.Module, texts: PromptStore, guidance: Guidance) -> None:
        super().__init__()
        self.network, self.guidance, self._texts = network, guidance, texts

    @property
    def texts(self) -> PromptStore:
        """Return the store of the prompts."""
        return self._texts


class PipelineAdapter(ABC):
    """One kind of diffusers pipeline: its components, its latents and its denoiser for prompts.

    A class of your own is named by ``model.adapter``; most derive from `EncodedAdapter`.

    Attributes:
        pipelines: Names of the diffusers classes that the adapter is the default for.
        part: Name of the denoiser in the pipeline.
        text: Names of the components that encode text.
        tokenizers: Names of their tokenizers.
        decoders: Names of the components that decode latents.
        needed: Names of the components without which the pipeline cannot sample.
        scheduler_overrides: Settings that the pipeline itself changes in its scheduler's configuration.
    """

    pipelines: ClassVar[tuple[str, ...]] = ()
    part: str = "unet"
    text: tuple[str, ...] = ("text_encoder",)
    tokenizers: tuple[str, ...] = ("tokenizer",)
    decoders: tuple[str, ...] = ("vae",)
    needed: tuple[str, ...] = ("unet", "vae", "scheduler", "text_encoder", "tokenizer")
    scheduler_overrides: ClassVar[dict[str, Any]] = {}

    def __deepcopy__(self, _: Any) -> "PipelineAdapter":
        return self  # the reference's copy has the same pipeline

    def read_index(self, index: Mapping[str, Any], weights: str) -> None:
        """Check ``model_index.json`` before anything is loaded.

        Args:
            index: Content of the file.
            weights: Name of the pipeline in messages.
        """
        return None

    def open(self, pipeline: "Pipeline", settings: PromptSettings) -> None:
        """Check the loaded pipeline before anything is sampled.

        Args:
            pipeline: Pipeline that was loaded.
            settings: Settings of the run.

        Raises:
            GraftError: The pipeline cannot be sampled.
        """
        return None

    @abstractmethod
    def latent_shape(self, pipe: Any, settings: PromptSettings) -> tuple[int, ...]:
        """Return the shape of a latent, without the batch dimension.

        Raises:
            GraftError: The pipeline has no pictures of this size.
        """

    @abstractmethod
    def pixels(self, pipe: Any, settings: PromptSettings) -> tuple[int, int]:
        """Return (height, width) of the pictures in pixels."""

    @abstractmethod
    def decode(self, pipeline: "Pipeline", latents: Tensor) -> Tensor:
        """Return (B, 3, H, W) float32 pixels, whole numbers from 0 to 255, of (B, ...) latents."""

    @abstractmethod
    def denoiser(self, pipeline: "Pipeline", settings: PromptSettings) -> PromptedNetwork:
        """Return the network that graft tunes."""

    @abstractmethod
    def call_settings(self, pipe: Any, settings: PromptSettings) -> dict[str, Any]:
        """Return the arguments of the pipeline's own call that repeat the settings: guidance and size."""

    def set_timesteps_kwargs(self, pipeline: "Pipeline", steps: int, settings: PromptSettings) -> dict[str, Any]:
        """Return further arguments of the scheduler's ``set_timesteps``, as the pipeline gives them."""
        return {}

    def channels(self, network: Any) -> "int | None":
        """Return the number of channels of the latents by the denoiser's configuration; None if it does not say."""
        return int(network.config.in_channels)

    def noise_order(self) -> "tuple[tuple[int, ...], Tensor] | None":
        """Return the shape in which the pipeline draws its noise, and the place of each entry of a latent in it.

        None: the noise is drawn in the shape of the latents.
        """
        return None

    def own_state(self, sample: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Return (B, *shape) latents of the sample that the pipeline's scheduler steps on."""
        return sample.reshape(len(sample), *shape)


def size_of(pipe: Any, network: Any, part: str, settings: PromptSettings) -> tuple[int, int]:
    """Return (height, width) in pixels of a pipeline that is trained on squares of its network's ``sample_size``.

    Raises:
        GraftError: The size is not a multiple of the size of a latent.
    """
    factor = int(pipe.vae_scale_factor)
    unit = 2 * factor if part == "transformer" else math.lcm(factor, 8)  # the pipelines' own calls refuse others
    size: Any = getattr(network.config, "sample_size", None) or getattr(pipe, "default_sample_size", 128)
    default: list[int] = [size, size] if isinstance(size, int) else list(size)
    pixels = [given or own * factor for given, own in zip((settings.height, settings.width), default, strict=True)]
    patch, most = (getattr(network.config, name, None) for name in ("patch_size", "pos_embed_max_size"))
    for name, value in zip(("height", "width"), pixels, strict=True):
        if value < unit or value % unit:
            raise GraftError(f"model.{name} is {value} pixels; it must be a multiple of {unit}")
        if isinstance(patch, int) and isinstance(most, int) and value > factor * patch * most:
            raise GraftError(f"model.{name} is {value} pixels; the network takes at most {factor * patch * most}")
    return pixels[0], pixels[1]


def eight_bits(pixels: Tensor) -> Tensor:
    """Return float32 whole numbers from 0 to 255 of pixels in [0, 1]."""
    return (pixels.float().clamp(0, 1) * 255).round()
