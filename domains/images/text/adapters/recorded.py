"""The adapter for pipelines without one of their own: it records the pipeline's call to replay it."""

import importlib
import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from domains.images import pretrained
from domains.images.text.adapters import guided
from domains.images.text.adapters.base import PipelineAdapter, PromptedNetwork, PromptSettings, eight_bits
from domains.images.text.adapters.certify import certify
from domains.images.text.adapters.recorded_call import Arguments, learn_call, recorded
from domains.images.text.adapters.recorded_denoiser import RecordedDenoiser, RecordedPrompts
from domains.images.text.adapters.recording import Recording, record, replaced
from graft.errors import GraftError

if TYPE_CHECKING:
    from domains.images.text.pipeline import Pipeline

DENOISERS = ("transformer", "unet")
DECODERS = ("vae", "movq", "vqgan", "vqvae")
LIBRARIES = ("diffusers", "transformers")
GRAFT_ARGUMENTS = ("self", "prompt", "num_inference_steps", "generator", "output_type", "return_dict", "kwargs")
STEPS = 3
"""Steps of the recorded call: two fix a linear function of the time, and the third checks it."""


class RecordedAdapter(PipelineAdapter):
    """Any text-to-image pipeline whose denoiser is called with the latents, the time and the prompt.

    The pipeline's own call runs for a prompt, and its denoiser's arguments are recorded. graft's sampler calls the
    denoiser with the same arguments, its own latents and its own time. Loading ends with two steps of graft's sampler
    and two of the pipeline's own call with the same noise. If they differ by more than rounding, the pipeline is
    refused.

    Args:
        call: Further arguments of the pipeline's call, such as ``{use_resolution_binning: false}``.
        denoiser: Name of the denoiser among the components; ``transformer`` or ``unet`` if not given.
    """

    def __init__(self, call: "dict[str, Any] | None" = None, denoiser: "str | None" = None) -> None:
        self.call, self._denoiser = dict(call or {}), denoiser
        self._noise: tuple[tuple[int, ...], Tensor] | None = None
        self._encoded: Any = None

    @override
    def read_index(self, index: Mapping[str, Any], weights: str) -> None:
        there = {
            name: value
            for name, value in index.items()
            if isinstance(value, list) and len(value) == 2 and value[0] is not None
        }
        names = (self._denoiser,) if self._denoiser else DENOISERS
        part = next((name for name in names if name in there), None)
        if part is None:
            raise GraftError(
                f"{weights} is a {index['_class_name']}, which has no component {' or '.join(names)}; name its "
                "denoiser with model.adapter.init_args.denoiser"
            )
        twin = next((name for name, value in there.items() if name != part and value == there[part]), None)
        if twin is not None:
            raise GraftError(f"{weights} has two denoisers, {part} and {twin}, and graft tunes one network")
        networks = [name for name, value in there.items() if _is_network(value)]
        self.part, self.decoders = part, tuple(name for name in DECODERS if name in there)
        self.text = tuple(name for name in networks if name not in (part, *self.decoders, "safety_checker"))
        self.tokenizers = ()
        found = {name for name in there if name not in ("safety_checker", "feature_extractor")}
        self.needed = tuple(sorted(found | {"scheduler"}))

    @override
    def channels(self, network: Any) -> None:
        return None

    @override
    def open(self, pipeline: "Pipeline", settings: PromptSettings) -> None:
        self._pipeline, self._kind = pipeline, type(pipeline.pipe).__name__
        pipeline.pipe.set_progress_bar_config(disable=True)
        self._parameters = inspect.signature(type(pipeline.pipe).__call__).parameters
        if "prompt" not in self._parameters:
            raise GraftError(f"the call of {self._kind} takes no prompt, so it is no text-to-image pipeline")
        if unknown := next((name for name in self.call if name not in self._parameters), None):
            raise GraftError(
                f"model.adapter.init_args.call has {unknown!r}, which the call of {self._kind} does not know; it knows "
                f"{', '.join(name for name in self._parameters if name not in GRAFT_ARGUMENTS)}"
            )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        pipeline.pipe.to(device)
        try:
            self._look(pipeline, settings)
            certify(self, pipeline, settings, device)
        except GraftError as error:
            raise GraftError(f"{self._kind} cannot be tuned here: {error}") from None
        finally:
            pipeline.pipe.to("cpu")

    def _look(self, pipeline: "Pipeline", settings: PromptSettings) -> None:
        """Find out how the pipeline calls its denoiser.

        Raises:
            GraftError: The call cannot be replayed.
        """
        prompt, self._settings = settings.prompts[0], settings
        one = self.run(settings, prompt, STEPS)
        two = self.run(settings, [prompt, prompt], STEPS, seed=1, steps=1)
        self._recorded = learn_call(self.part, one, two)
        scale = settings.guidance.guidance_scale
        self._guided = guided.find(self._recorded.branches_and_output(one), scale, self.rounding)
        if settings.guidance.on and self._guided.scale is None:
            raise GraftError(
                f"model.guidance.guidance_scale is {scale:g}, and its call has a single branch; set it to 1, and "
                "model.guidance.embedded_guidance_scale for a network that takes the scale"
            )
        if not settings.guidance.on and self._guided.scale is not None:
            raise GraftError(
                "its call has two branches without guidance too: set model.guidance.guidance_scale above 1"
            )
        self._noise = self._noise_order(settings, one)
        height, width = self.decode(pipeline, recorded(one.steps[-1].after)).shape[2:]
        self._pixels = (int(height), int(width))

    @property
    def rounding(self) -> float:
        """Return the relative difference that rounding explains, in the type of the latents."""
        return 1e-4 if self._recorded.dtype == torch.float32 and self._pipeline.dtype == torch.float32 else 5e-2

    def run(
        self, settings: PromptSettings, prompt: "str | list[str]", count: int, seed: int = 0, **how: Any
    ) -> Recording:
        """Return the recording of the pipeline's own call.

        Args:
            settings: Settings of the run.
            prompt: Prompt, or a batch of them.
            count: Number of steps.
            seed: Seed of the noise.
            **how: Arguments of `record`.

        Raises:
            GraftError: The call fails.
        """
        call = self.call_settings(self._pipeline.pipe, settings)
        if isinstance(prompt, list) and isinstance(call.get("negative_prompt"), str):
            call["negative_prompt"] = [call["negative_prompt"]] * len(prompt)
        call |= {"prompt": prompt, "num_inference_steps": count, "generator": Generator().manual_seed(seed)}
        output = how.pop("output_type", "latent")
        call |= {"output_type": output} if "output_type" in self._parameters else {}
        try:
            with pretrained.quiet():
                return record(self._pipeline.pipe, self.part, call, **how)
        except GraftError:
            raise
        except Exception as error:  # pipelines raise errors of many types
            raise GraftError(
                f"its own call fails ({pretrained.first_line(error)}); give the arguments that it needs with "
                "model.adapter.init_args.call"
            ) from None

    def _noise_order(self, settings: PromptSettings, one: Recording) -> tuple[tuple[int, ...], Tensor]:
        """Return the shape of the pipeline's first noise, and the place of each entry of a latent in it."""
        size = recorded(one.steps[0].sample).numel()
        chosen = [i for i, draw in enumerate(one.noises) if draw.numel() == size and len(draw) == 1]
        if not chosen:
            raise GraftError("its first latents are not one draw of noise for each sample")
        if chosen[-1] > 0:
            raise GraftError(
                "it draws other noise before its first latents, so a prompt alone does not fix its arguments"
            )
        base = 2**24 if one.noises[chosen[-1]].dtype == torch.float32 else 2**8  # whole numbers that the type holds
        places, unit = torch.zeros(size, dtype=torch.long), 1
        while unit < size:
            digits = (torch.arange(size) // unit) % base
            seen = self.run(
                settings,
                settings.prompts[0],
                STEPS,
                steps=1,
                outputs=self._recorded.outputs,
                noise=lambda i, draw, digits=digits: digits.to(draw).view_as(draw) if i == chosen[-1] else draw,
            )
            first = recorded(seen.steps[0].sample).double().flatten().cpu()
            places += first.round().clamp(0, base - 1).long() * unit
            unit *= base
        if not torch.equal(places.sort().values, torch.arange(size)):
            raise GraftError("its first latents are not a draw of noise, but a function of it")
        return tuple(one.noises[chosen[-1]].shape[1:]), places

    @override
    def noise_order(self) -> "tuple[tuple[int, ...], Tensor] | None":
        return self._noise

    @override
    def latent_shape(self, pipe: Any, settings: PromptSettings) -> tuple[int, ...]:
        return self._recorded.shape

    @override
    def pixels(self, pipe: Any, settings: PromptSettings) -> tuple[int, int]:
        return self._pixels

    @override
    def set_timesteps_kwargs(self, pipeline: "Pipeline", steps: int, settings: PromptSettings) -> dict[str, Any]:
        return self.run(settings, settings.prompts[0], steps, steps=1, outputs=self._recorded.outputs).timesteps_kwargs

    @override
    def call_settings(self, pipe: Any, settings: PromptSettings) -> dict[str, Any]:
        guidance = settings.guidance
        found: dict[str, Any] = {}
        embedded = bool(getattr(getattr(pipe, self.part).config, "guidance_embeds", False))
        names = [name for name in ("true_cfg_scale", "guidance_scale") if name in self._parameters]
        if names:
            found[names[0]] = guidance.guidance_scale
        if embedded and "guidance_scale" in names:
            found["guidance_scale"] = guidance.embedded_guidance_scale
        if guidance.on and "negative_prompt" in self._parameters and names[0] == "true_cfg_scale":
            found["negative_prompt"] = guidance.negative_prompt or ""
        elif guidance.on and guidance.negative_prompt is not None:
            found["negative_prompt"] = guidance.negative_prompt
        found |= {} if settings.height is None else {"height": settings.height}
        found |= {} if settings.width is None else {"width": settings.width}
        return {**found, **self.call}

    @override
    @torch.no_grad()
    def decode(self, pipeline: "Pipeline", latents: Tensor) -> Tensor:
        with pipeline.on(latents.device, (*self.text, *self.decoders)):
            return torch.cat([self._decoded(latent[None]) for latent in latents])

    def _decoded(self, latent: Tensor) -> Tensor:
        """Return (1, 3, H, W) pixels of a latent, by the end of the pipeline's own call."""
        settings = self._settings
        with self._text_once():
            result = self.run(
                settings, settings.prompts[0], STEPS, outputs=self._recorded.outputs, latents=latent, output_type="pt"
            )
        found = result.result[0]
        found = torch.as_tensor(found) if not isinstance(found, list) else torch.stack(found)
        if found.ndim == 5:  # the frames of a video stand next to each other
            found = torch.cat(list(found.unbind(1)), dim=-1)
        if found.ndim != 4 or found.shape[1] != 3:
            raise GraftError(
                f"its call gives {tuple(found.shape[1:])} for a sample, which is no picture of three colours"
            )
        return eight_bits(found)

    def _text_once(self) -> "AbstractContextManager[None]":
        """Return a context in which the first prompt is encoded once, since decoding a picture needs no text."""
        pipe = self._pipeline.pipe
        encode = getattr(pipe, "encode_prompt", None)
        if encode is None:
            return nullcontext()

        def encoded(*args: Any, **kwargs: Any) -> Any:
            if self._encoded is None:
                self._encoded = encode(*args, **kwargs)
            return self._encoded

        return replaced((pipe, "encode_prompt", encoded))

    @property
    def guided(self) -> guided.Guided:
        """Return how the pipeline joins the branches."""
        return self._guided

    @override
    def denoiser(self, pipeline: "Pipeline", settings: PromptSettings) -> PromptedNetwork:
        def arguments(prompt: str, device: torch.device) -> Arguments:
            with self._pipeline.on(device, self.text):
                calls = len(self._recorded.templates)
                found = self.run(settings, prompt, STEPS, outputs=self._recorded.outputs, calls=calls)
            return self._recorded.arguments(found)

        texts = RecordedPrompts(pipeline, list(settings.prompts), self._recorded, arguments)
        return RecordedDenoiser(texts, self._recorded, self._guided, settings, self.call)


def _is_network(component: "list[str]") -> bool:
    """Return True if a component of ``model_index.json`` is a network of diffusers or transformers."""
    library, name = component
    kind = getattr(importlib.import_module(library), name, None) if library in LIBRARIES else None
    return isinstance(kind, type) and issubclass(kind, nn.Module)
