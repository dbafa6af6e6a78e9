"""The adapter for pipelines without one of their own: it records the pipeline's call and replays it."""

import importlib
import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from domains.images import pretrained
from domains.images.text.adapters import guided, replay
from domains.images.text.adapters.base import PipelineAdapter, PromptedNetwork, PromptSettings, PromptStore, eight_bits
from domains.images.text.adapters.certify import certify
from domains.images.text.adapters.recording import Recording, first_of, record, replaced
from graft.core.state import Condition
from graft.errors import GraftError
from graft.io.fingerprint import fingerprint_hash

if TYPE_CHECKING:
    from domains.images.text.pipeline import Pipeline

DENOISERS = ("transformer", "unet")
DECODERS = ("vae", "movq", "vqgan", "vqvae")
LIBRARIES = ("diffusers", "transformers")
OURS = ("self", "prompt", "num_inference_steps", "generator", "output_type", "return_dict", "kwargs")
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
        self.needed = tuple(name for name in there if name not in ("safety_checker", "feature_extractor"))

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
                f"{', '.join(name for name in self._parameters if name not in OURS)}"
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
        if not one.steps or any(not step.calls for step in one.steps):
            raise GraftError(f"its call does not reach its {self.part} and its scheduler in each step")
        count = len(one.steps[0].calls)
        if any(len(step.calls) != count for step in one.steps):
            raise GraftError("the number of calls of its denoiser changes from step to step")
        two = self.run(settings, [prompt, prompt], STEPS, seed=1, steps=1)
        samples, times = [_there(step.sample) for step in one.steps], [step.time for step in one.steps]
        if len(samples[0]) != 1 or len(_there(two.steps[0].sample)) != 2:
            raise GraftError("its latents have no batch dimension")
        self._shape, self._dtype = tuple(samples[0].shape[1:]), samples[0].dtype
        self._templates = []
        for place in range(count):
            given = [step.calls[place].given for step in one.steps]
            twice = two.steps[0].calls[place].given
            self._templates.append(
                {
                    name: replay.template(name, [g[name] for g in given], twice[name], samples, times)
                    for name in given[0]
                }
            )
        found = [next(filter(None, map(replay.copies_of, each.values())), None) for each in self._templates]
        if None in found:
            raise GraftError(f"its {self.part} is not given the latents as they are, but changed or with others")
        self._copies = [copies for copies in found if copies is not None]
        if not any(isinstance(node, replay.Time) for each in self._templates for node in each.values()):
            raise GraftError("its denoiser is not given the time, or not as a linear function of the scheduler's")
        self._stand_ins = [each.output for each in one.steps[0].calls]
        mixed = [
            (
                [
                    branch
                    for each, copies in zip(step.calls, self._copies, strict=True)
                    for branch in guided.branches_of(each.output, copies, self._shape)
                ],
                _there(step.output),
            )
            for step in one.steps
        ]
        self._guided = guided.find(mixed, settings.guidance.guidance_scale, self.rounding)
        if settings.guidance.on and self._guided.scale is None:
            raise GraftError(
                f"model.guidance.guidance_scale is {settings.guidance.guidance_scale:g}, and its call has a single "
                "branch; set it to 1, and model.guidance.embedded_guidance_scale for a network that takes the scale"
            )
        if not settings.guidance.on and self._guided.scale is not None:
            raise GraftError(
                "its call has two branches without guidance too: set model.guidance.guidance_scale above 1"
            )
        self._noise = self._noise_order(settings, one)
        height, width = self.decode(pipeline, _there(one.steps[-1].after)).shape[2:]
        self._pixels = (int(height), int(width))

    @property
    def rounding(self) -> float:
        """Return the relative difference that rounding explains, in the type of the latents."""
        return 1e-4 if self._dtype == torch.float32 and self._pipeline.dtype == torch.float32 else 5e-2

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
        size = _there(one.steps[0].sample).numel()
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
                outputs=self._stand_ins,
                noise=lambda i, draw, digits=digits: digits.to(draw).view_as(draw) if i == chosen[-1] else draw,
            )
            first = _there(seen.steps[0].sample).double().flatten().cpu()
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
        return self._shape

    @override
    def pixels(self, pipe: Any, settings: PromptSettings) -> tuple[int, int]:
        return self._pixels

    @override
    def set_timesteps_kwargs(self, pipeline: "Pipeline", steps: int, settings: PromptSettings) -> dict[str, Any]:
        return self.run(settings, settings.prompts[0], steps, steps=1, outputs=self._stand_ins).clock

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
                settings, settings.prompts[0], STEPS, outputs=self._stand_ins, latents=latent, output_type="pt"
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
        """Return a context in which the first prompt is encoded once and for all, since pictures ask for no text."""
        pipe = self._pipeline.pipe
        encode = getattr(pipe, "encode_prompt", None)
        if encode is None:
            return nullcontext()

        def encoded(*args: Any, **kwargs: Any) -> Any:
            if self._encoded is None:
                self._encoded = encode(*args, **kwargs)
            return self._encoded

        return replaced((pipe, "encode_prompt", encoded))

    @override
    def denoiser(self, pipeline: "Pipeline", settings: PromptSettings) -> PromptedNetwork:
        return RecordedDenoiser(self, RecordedPrompts(self, pipeline, settings), settings)

    def given(self, settings: PromptSettings, prompt: str, device: torch.device) -> list[dict[str, Any]]:
        """Return the arguments of the denoiser's calls for a prompt, without the latents and the time."""
        with self._pipeline.on(device, self.text):
            found = self.run(settings, prompt, STEPS, outputs=self._stand_ins, calls=len(self._templates))
        return [
            {name: replay.pruned(node, call.given[name]) for name, node in each.items()}
            for each, call in zip(self._templates, found.steps[0].calls, strict=True)
        ]

    def groups(self, rows: "list[list[dict[str, Any]]]") -> "list[list[int]]":
        """Return indices of samples whose arguments can be one batch."""
        found: dict[Any, list[int]] = {}
        for place, row in enumerate(rows):
            key = tuple(
                replay.shapes(node, given[name])
                for each, given in zip(self._templates, row, strict=True)
                for name, node in each.items()
            )
            found.setdefault(key, []).append(place)
        return list(found.values())

    def branches(
        self, network: nn.Module, rows: "list[list[dict[str, Any]]]", x: Tensor, time: Tensor, only: "int | None" = None
    ) -> list[Tensor]:
        """Return the outputs of the branches for a batch, (B, ...) each.

        Args:
            network: Denoiser.
            rows: Arguments of each sample's prompt.
            x: (B, ...) latents.
            time: (B,) times of the scheduler.
            only: Branch that is wanted; None for all.
        """
        found, before = [], 0
        for place, (each, copies) in enumerate(zip(self._templates, self._copies, strict=True)):
            chosen = [b for b in range(copies) if only is None or before + b == only]
            before += copies
            if not chosen:
                continue
            given = {
                name: replay.fill(node, [row[place][name] for row in rows], x, time, chosen, copies)
                for name, node in each.items()
            }
            output = first_of(network(**given))
            found += guided.branches_of(output, len(chosen), self._shape)
        return found

    @property
    def guided(self) -> guided.Guided:
        """Return how the pipeline joins the branches."""
        return self._guided


class RecordedPrompts(PromptStore):
    """The denoiser's arguments for each prompt, recorded at first use and kept in CPU memory.

    Args:
        adapter: Adapter of the pipeline.
        pipeline: Pipeline with the text encoders.
        settings: Prompts, guidance and size of the pictures.
    """

    def __init__(self, adapter: RecordedAdapter, pipeline: "Pipeline", settings: PromptSettings) -> None:
        super().__init__(pipeline)
        self._adapter, self._settings = adapter, settings
        self._kept: dict[int, list[dict[str, Any]]] = {}
        self._last: tuple[Any, Any] = (None, None)

    def batches(self, prompt: Tensor) -> "list[tuple[list[int], list[list[dict[str, Any]]]]]":
        """Return (indices of samples, their arguments) of each batch that the denoiser can be called with.

        The arguments of the last tensor of prompts stay on its device, since all steps of a batch have the same tensor.
        """
        self.device = prompt.device
        if self._last[0] is not prompt:
            indices = [max(index, 0) for index in prompt.tolist()]  # the negative prompt is a branch of every prompt
            moved = {
                i: [{k: replay.moved(v, prompt.device) for k, v in call.items()} for call in self._row(i)]
                for i in dict.fromkeys(indices)
            }
            rows = [moved[index] for index in indices]
            groups = self._adapter.groups([self._row(index) for index in indices])
            self._last = (prompt, [(group, [rows[i] for i in group]) for group in groups])
        found: list[tuple[list[int], list[list[dict[str, Any]]]]] = self._last[1]
        return found

    def _row(self, index: int) -> list[dict[str, Any]]:
        if index not in self._kept:
            self.calls += 1
            self._kept[index] = self._adapter.given(self._settings, self._settings.prompts[index], self.device)
        return self._kept[index]


class RecordedDenoiser(PromptedNetwork):
    """A pipeline's denoiser, called with recorded arguments.

    Prompts whose arguments have other shapes are other calls.

    Args:
        adapter: Adapter of the pipeline.
        texts: Arguments for each prompt.
        settings: Prompts, guidance and size of the pictures.
    """

    def __init__(self, adapter: RecordedAdapter, texts: RecordedPrompts, settings: PromptSettings) -> None:
        pipeline = texts.pipeline
        super().__init__(pipeline.network, texts, settings.guidance)
        # part of the fingerprint, since rounds hold the prompts' indices and draws depend on the call
        self.prompts, self.call = fingerprint_hash(list(settings.prompts)), adapter.call
        self._adapter, self._recorded = adapter, texts

    @override
    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """Return the output in the type of the state; ``alone`` in the condition turns guidance off."""
        rule = self._adapter.guided
        alone = "alone" in condition and rule.scale is not None
        places: list[int] = []
        outputs: list[Tensor] = []
        for indices, rows in self._recorded.batches(condition["prompt"]):
            x, t = state[indices], time[indices]
            if not alone:
                outputs.append(rule.mix(self._adapter.branches(self.network, rows, x, t)))
                places += indices
                continue
            negative = [condition["prompt"][i].item() < 0 for i in indices]
            for branch, wanted in ((rule.conditional, False), (rule.unconditional, True)):
                chosen = [i for i, dropped in enumerate(negative) if dropped is wanted]
                if chosen:
                    few = [rows[i] for i in chosen]
                    (found,) = self._adapter.branches(self.network, few, x[chosen], t[chosen], branch)
                    outputs.append(rule.sign * found)
                    places += [indices[i] for i in chosen]
        order = torch.tensor(places, device=state.device).argsort()
        return torch.cat(outputs)[order].to(state.dtype)


def _there(tensor: "Tensor | None") -> Tensor:
    assert tensor is not None
    return tensor


def _is_network(component: "list[str]") -> bool:
    """Return True if a component of ``model_index.json`` is a network of diffusers or transformers."""
    library, name = component
    kind = getattr(importlib.import_module(library), name, None) if library in LIBRARIES else None
    return isinstance(kind, type) and issubclass(kind, nn.Module)
