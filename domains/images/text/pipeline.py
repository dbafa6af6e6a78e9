"""A diffusers pipeline from a folder or the hub: checked, loaded, and asked for texts and pictures."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from domains.images.pretrained import first_line
from domains.images.text import loading
from domains.images.text.families import FAMILIES, Given, PipelineAdapter
from domains.images.text.process import LatentGaussian, process, sampling_scheduler
from graft import files, plain_json
from graft.errors import GraftError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Memory:
    """What is given up for memory.

    Args:
        gradient_checkpointing: Compute activations again in the backward pass: more time, less memory in training.
        attention_slicing: Attention a part of the heads at a time.
        offload: Text encoders and VAE wait in the processor's memory, and are on the device only while they are used.
        vae_slicing: Decode one picture at a time.
        vae_tiling: Decode large pictures in tiles.
    """

    gradient_checkpointing: bool = False
    attention_slicing: bool = False
    offload: bool = False
    vae_slicing: bool = False
    vae_tiling: bool = False


class Pipeline:
    """A pipeline whose denoiser is tuned and whose other parts are frozen; no module, so nothing saves or moves it.

    Args:
        weights: Its folder, or its name on the hub.
        dtype: Of all its parts; the latents between them stay float32.
        variant: Of the weight files (``fp16``).
        revision: On the hub.
        scheduler: Changes of the scheduler's configuration.
        memory: See `Memory`.
        without: Components that are not loaded, such as SD 3's third text encoder.

    Raises:
        GraftError: It is no pipeline, lacks a part, is of a kind that is not known here, or its scheduler cannot be
            mapped to alpha and sigma.
    """

    def __init__(
        self,
        weights: str,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        variant: "str | None" = None,
        revision: "str | None" = None,
        scheduler: "dict[str, Any] | None" = None,
        memory: "Memory | None" = None,
        without: Sequence[str] = (),
    ) -> None:
        if dtype not in DTYPES:
            raise GraftError(f"model.dtype is {dtype!r}, but it is one of {', '.join(DTYPES)}")
        self.memory = memory or Memory()
        self.folder = folder(weights, variant, revision)
        self.family = _family(self.folder, weights)
        self.dtype = DTYPES[dtype]
        ours = _solver(self.folder, self.family, scheduler or {})  # first: it may be refused, and weights are large
        unused = loading.left_aside(self.folder, self.family, without)
        self.pipe = loading.load(self.folder, weights, self.family, DTYPES[dtype], variant, unused, ours)
        self.loaded = {"dtype": dtype, "variant": variant, "revision": revision, **unused}
        """What ``DiffusionPipeline.from_pretrained`` must be given to load the same pipeline."""
        self.network = getattr(self.pipe, self.family.part)
        if getattr(self.network.config, "time_cond_proj_dim", None) is not None:
            raise GraftError(
                f"{weights} is a consistency model, distilled to few steps: give the model it was made from"
            )
        self.path = str(self.folder.resolve()) if Path(weights).is_dir() else weights
        self.sha256 = _hash(self.folder, self.family)
        for name in (*self.family.text, "vae"):
            part = getattr(self.pipe, name, None)
            if part is not None:
                part.requires_grad_(False).eval()
        if self.memory.gradient_checkpointing:
            self.network.enable_gradient_checkpointing()
        if self.memory.attention_slicing:
            self.pipe.enable_attention_slicing()
        if self.memory.vae_slicing:
            self.pipe.vae.enable_slicing()
        if self.memory.vae_tiling:
            self.pipe.vae.enable_tiling()

    def shape(self, height: "int | None", width: "int | None") -> tuple[int, int, int]:
        """(C, H, W) of the latents of pictures of so many pixels; of the size it was trained with if not given.

        Raises:
            GraftError: Such pictures have no whole latents.
        """
        factor = int(self.pipe.vae_scale_factor)
        unit = factor * (2 if self.family.part == "transformer" else 1)
        size: Any = getattr(self.network.config, "sample_size", None) or getattr(self.pipe, "default_sample_size", 128)
        default: list[int] = [size, size] if isinstance(size, int) else list(size)
        pixels = [asked or own * factor for asked, own in zip((height, width), default, strict=True)]
        for name, value in zip(("height", "width"), pixels, strict=True):
            if value < unit or value % unit:
                raise GraftError(f"model.{name} is {value} pixels, but this model's pictures have multiples of {unit}")
        return (self.family.channels(self.network), pixels[0] // factor, pixels[1] // factor)

    def process(self, steps: int, shape: tuple[int, int, int], eta: float, guided: bool = False) -> LatentGaussian:
        """See `domains.images.text.process.process`."""
        if steps < 1:
            raise GraftError(f"model.steps is {steps}, but a sampler takes at least 1")
        return process(
            self.pipe.scheduler, steps, shape, eta, guided, **self.family.set_timesteps_kwargs(self.pipe, steps, shape)
        )

    @torch.no_grad()
    def encode(self, prompt: str, shape: tuple[int, int, int], device: torch.device) -> Given:
        """What a prompt is to the network, one row of each tensor, in the processor's memory."""
        with self._on(device, self.family.text):
            return self._kept(self.family.encode(self.pipe, prompt, device), shape)

    @torch.no_grad()
    def negative(self, prompt: "str | None", shape: tuple[int, int, int], device: torch.device) -> Given:
        """What the network is given in the place of a prompt, as `encode`."""
        with self._on(device, self.family.text):
            return self._kept(self.family.negative(self.pipe, prompt, device), shape)

    def _kept(self, given: Given, shape: tuple[int, int, int]) -> Given:
        factor = int(self.pipe.vae_scale_factor)
        height, width = shape[1] * factor, shape[2] * factor
        size = torch.tensor([[height, width, 0, 0, height, width]], dtype=next(iter(given.values())).dtype)
        return {name: value.detach().cpu() for name, value in given.items()} | {"size": size}

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """(B, 3, H, W) float32 pixels of (B, C, H, W) latents, 0 to 255 in whole numbers, as the pipeline has them."""
        vae = self.pipe.vae
        config = vae.config
        dtype = vae.dtype
        upcast = dtype == torch.float16 and config.get("force_upcast", False)
        if upcast:
            vae.to(torch.float32)  # it overflows
        with self._on(latents.device, ("vae",)):
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
        pixels: Tensor = ((image.float() * 0.5 + 0.5).clamp(0, 1) * 255).round()
        return pixels

    @contextmanager
    def _on(self, device: torch.device, names: Sequence[str]) -> Iterator[None]:
        parts = [part for name in names if (part := getattr(self.pipe, name, None)) is not None]
        for part in parts:
            part.to(device)
        try:
            yield
        finally:
            if self.memory.offload:
                for part in parts:
                    part.to("cpu")


def folder(weights: str, variant: "str | None" = None, revision: "str | None" = None) -> Path:
    """The folder of a pipeline, fetched from the hub if it is not one here.

    Raises:
        GraftError: There is none.
    """
    path = Path(weights)
    if path.is_dir():
        return path
    if path.exists() or path.is_absolute() or weights.startswith((".", "~")) or weights.count("/") != 1:
        raise GraftError(f"there is no folder of a diffusers pipeline at {weights!r}, and it is no name on the hub")
    from diffusers import DiffusionPipeline

    try:
        return Path(DiffusionPipeline.download(weights, variant=variant, revision=revision))
    except Exception as error:  # of the network, of the hub, of the file system
        raise GraftError(
            f"{weights!r} is no folder here, and cannot be had from the hub ({first_line(error)}): give a folder that "
            "save_pretrained made"
        ) from None


def _family(path: Path, weights: str) -> PipelineAdapter:
    try:
        index = plain_json.parse((path / "model_index.json").read_text(encoding="utf-8-sig"))
        name = str(index["_class_name"])
    except FileNotFoundError:
        raise GraftError(
            f"{weights} is no diffusers pipeline: it has no model_index.json; give the folder that save_pretrained made"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise GraftError(f"{path / 'model_index.json'} is damaged ({error})") from None
    family = next((each for each in FAMILIES if name in each.pipelines), None)
    if family is None:
        known = ", ".join(each for family in FAMILIES for each in family.pipelines)
        raise GraftError(f"{weights} is a {name}, but what can be tuned is {known}")
    for part in family.needed:
        named = index.get(part)
        if not isinstance(named, list) or named[0] is None or not (path / part).is_dir():
            raise GraftError(f"the pipeline {weights} lacks its component {part!r}: fetch or save it again")
    return family


def _solver(path: Path, family: PipelineAdapter, changes: dict[str, Any]) -> Any:
    import diffusers

    name = plain_json.parse((path / "model_index.json").read_text(encoding="utf-8-sig"))["scheduler"][1]
    if not hasattr(diffusers, name):
        raise GraftError(f"this diffusers has no {name}, the scheduler of {path}: install a newer one")
    try:
        theirs = getattr(diffusers, name).from_pretrained(path, subfolder="scheduler")
    except Exception as error:  # of a dozen kinds
        raise GraftError(f"the scheduler of {path} cannot be loaded: {first_line(error)}") from None
    corrected = {key: value for key, value in family.scheduler_overrides.items() if key in theirs.config}
    return sampling_scheduler(theirs, {**corrected, **changes})


def _hash(path: Path, family: PipelineAdapter) -> str:
    """Of the denoiser's files and of every component's configuration."""
    chosen = sorted({*path.glob("*/*.json"), *(path / family.part).rglob("*")})
    digest = hashlib.sha256()
    for file in chosen:
        if file.is_file():
            digest.update(f"{file.relative_to(path)} {files.sha256(file)}\n".encode())
    return digest.hexdigest()
