"""A diffusers pipeline from a folder or the hub, checked before it is loaded."""

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
from graft.core import limits
from graft.errors import GraftError
from graft.io.checksum import checksum, file_checksum
from graft.io.json_files import parse_json
from graft.io.paths import search_paths

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Memory:
    """Settings that save memory and take more time.

    Args:
        gradient_checkpointing: Compute activations again in the backward pass: less memory in training.
        attention_slicing: Compute attention for a part of the heads at a time.
        offload: Keep text encoders and VAE in CPU memory, and on the device only while they are used.
        vae_slicing: Decode one picture at a time.
        vae_tiling: Decode large pictures in tiles.
    """

    gradient_checkpointing: bool = False
    attention_slicing: bool = False
    offload: bool = False
    vae_slicing: bool = False
    vae_tiling: bool = False


class Pipeline:
    """A pipeline with a denoiser that is tuned and other parts that are frozen.

    It is not a module, so Lightning neither saves nor moves it.

    Args:
        weights: Folder of the pipeline, or its name on the hub.
        dtype: Type of all parts; the latents between them stay float32.
        variant: Variant of the weight files (``fp16``).
        revision: Revision on the hub.
        scheduler: Changes of the scheduler's configuration.
        memory: Settings that save memory.
        without: Components that are not loaded, such as SD 3's third text encoder.

    Raises:
        GraftError: There is no such pipeline, it lacks a part, its kind is unknown, or its scheduler has no alpha and
            sigma.
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
            raise GraftError(f"model.dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}")
        self.memory = memory or Memory()
        self.folder = folder(weights, variant, revision)
        self.family = _family(self.folder, weights)
        self.dtype = DTYPES[dtype]
        # the scheduler may be refused, so it is read before the weights, which are large
        ours = _solver(self.folder, self.family, scheduler or {})
        unused = loading.left_aside(self.folder, self.family, without)
        self.pipe = loading.load(self.folder, weights, self.family, DTYPES[dtype], variant, unused, ours)
        self.loaded = {"dtype": dtype, "variant": variant, "revision": revision, **unused}
        """Arguments of ``DiffusionPipeline.from_pretrained`` that load the same pipeline."""
        self.network = getattr(self.pipe, self.family.part)
        if getattr(self.network.config, "time_cond_proj_dim", None) is not None:
            raise GraftError(
                f"{weights} is a consistency model, distilled to few steps: give the model it was made from"
            )
        self.path = weights if _local(weights) is None else str(self.folder.resolve())
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
        """Return (C, H, W) of the latents of pictures of a size in pixels.

        Args:
            height: Height of the pictures; None for that of the training.
            width: Width of the pictures; None for that of the training.

        Raises:
            GraftError: The size is not a multiple of the size of a latent.
        """
        factor = int(self.pipe.vae_scale_factor)
        unit = factor * (2 if self.family.part == "transformer" else 1)
        size: Any = getattr(self.network.config, "sample_size", None) or getattr(self.pipe, "default_sample_size", 128)
        default: list[int] = [size, size] if isinstance(size, int) else list(size)
        pixels = [asked or own * factor for asked, own in zip((height, width), default, strict=True)]
        for name, value in zip(("height", "width"), pixels, strict=True):
            if value < unit or value % unit:
                raise GraftError(f"model.{name} is {value} pixels; it must be a multiple of {unit}")
        return (self.family.channels(self.network), pixels[0] // factor, pixels[1] // factor)

    def process(self, steps: int, shape: tuple[int, int, int], eta: float, guided: bool = False) -> LatentGaussian:
        """Return the process of the scheduler (`domains.images.text.process.process`)."""
        limits.check("model.steps", steps, 1)
        return process(
            self.pipe.scheduler, steps, shape, eta, guided, **self.family.set_timesteps_kwargs(self.pipe, steps, shape)
        )

    @torch.no_grad()
    def encode(self, prompt: str, shape: tuple[int, int, int], device: torch.device) -> Given:
        """Return the embedding of a prompt, one row of each tensor, in CPU memory."""
        with self._on(device, self.family.text):
            return self._kept(self.family.encode(self.pipe, prompt, device), shape)

    @torch.no_grad()
    def negative(self, prompt: "str | None", shape: tuple[int, int, int], device: torch.device) -> Given:
        """Return the embedding of the negative prompt, in the form of `encode`."""
        with self._on(device, self.family.text):
            return self._kept(self.family.negative(self.pipe, prompt, device), shape)

    def _kept(self, given: Given, shape: tuple[int, int, int]) -> Given:
        factor = int(self.pipe.vae_scale_factor)
        height, width = shape[1] * factor, shape[2] * factor
        size = torch.tensor([[height, width, 0, 0, height, width]], dtype=next(iter(given.values())).dtype)
        return {name: value.detach().cpu() for name, value in given.items()} | {"size": size}

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return (B, 3, H, W) float32 pixels, whole numbers from 0 to 255, of (B, C, H, W) latents."""
        vae = self.pipe.vae
        config = vae.config
        dtype = vae.dtype
        upcast = dtype == torch.float16 and config.get("force_upcast", False)
        if upcast:
            vae.to(torch.float32)  # the VAE overflows in float16
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
    """Return the folder of a pipeline, downloaded from the hub if there is no such folder.

    Raises:
        GraftError: There is no such pipeline.
    """
    if (local := _local(weights)) is not None:
        return local
    path = Path(weights)
    if path.exists() or path.is_absolute() or weights.startswith((".", "~")) or weights.count("/") != 1:
        raise GraftError(f"there is no folder of a diffusers pipeline at {weights!r}, and it is no name on the hub")
    from diffusers import DiffusionPipeline

    try:
        return Path(DiffusionPipeline.download(weights, variant=variant, revision=revision))
    except Exception as error:  # the network, the hub and the file system raise errors of many types
        raise GraftError(
            f"{weights!r} is no folder here, and cannot be had from the hub ({first_line(error)}): give a folder that "
            "save_pretrained made"
        ) from None


def _local(weights: str) -> "Path | None":
    """Return the folder of a pipeline here or in the installed packages; None if there is none."""
    if Path(weights).is_dir():
        return Path(weights)
    return next((root / weights for root in search_paths() if (root / weights / "model_index.json").is_file()), None)


def _family(path: Path, weights: str) -> PipelineAdapter:
    try:
        index = parse_json((path / "model_index.json").read_text(encoding="utf-8-sig"))
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
        raise GraftError(f"{weights} is a {name}; it must be one of {known}")
    for part in family.needed:
        named = index.get(part)
        if not isinstance(named, list) or named[0] is None or not (path / part).is_dir():
            raise GraftError(f"the pipeline {weights} lacks its component {part!r}: fetch or save it again")
    return family


def _solver(path: Path, family: PipelineAdapter, changes: dict[str, Any]) -> Any:
    import diffusers

    name = parse_json((path / "model_index.json").read_text(encoding="utf-8-sig"))["scheduler"][1]
    if not hasattr(diffusers, name):
        raise GraftError(f"this diffusers has no {name}, the scheduler of {path}: install a newer one")
    try:
        theirs = getattr(diffusers, name).from_pretrained(path, subfolder="scheduler")
    except Exception as error:  # diffusers raises errors of a dozen types
        raise GraftError(f"the scheduler of {path} cannot be loaded: {first_line(error)}") from None
    corrected = {key: value for key, value in family.scheduler_overrides.items() if key in theirs.config}
    return sampling_scheduler(theirs, {**corrected, **changes})


def _hash(path: Path, family: PipelineAdapter) -> str:
    """Return the hash of the denoiser's files and of every component's configuration."""
    chosen = sorted({*path.glob("*/*.json"), *(path / family.part).rglob("*")})
    return checksum({file.relative_to(path).as_posix(): file_checksum(file) for file in chosen if file.is_file()})
