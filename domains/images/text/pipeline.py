"""A diffusers pipeline from a folder or the hub, checked before it is loaded."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from domains.images.pretrained import first_line
from domains.images.text import distilled, loading
from domains.images.text.adapters import PipelineAdapter, PromptSettings, default_adapter
from domains.images.text.fused_lora import FusedLoRA, fuse
from domains.images.text.process import LatentGaussian, process, sampling_scheduler
from graft.core import limits
from graft.errors import GraftError
from graft.io.checksum import checksum, file_checksum
from graft.io.json_files import parse_json
from graft.io.paths import search_paths

SINGLE_FILES = (".safetensors", ".ckpt", ".bin", ".pt", ".pth")
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
        adapter: Adapter of the pipeline; the default for its class if not given.
        fused: LoRA adapter that the reference begins with.
        single_file_config: Folder with the configurations of a pipeline, for weights that are a single file.

    Raises:
        GraftError: There is no such pipeline, it lacks a part, its kind is unknown, its scheduler has no alpha and
            sigma, or a package is missing.
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
        adapter: "PipelineAdapter | None" = None,
        fused: "FusedLoRA | None" = None,
        single_file_config: "str | None" = None,
    ) -> None:
        if dtype not in DTYPES:
            raise GraftError(f"model.dtype is {dtype!r}; it must be one of {', '.join(DTYPES)}")
        loading.require_packages()
        self.memory = memory or Memory()
        self.single_file = single_file(weights, single_file_config)
        self.folder = folder(single_file_config or weights, variant, revision)
        self.adapter = _adapter(self.folder, weights, adapter)
        self.dtype = DTYPES[dtype]
        # the scheduler may be refused, so it is read before the weights, which are large
        ours = _solver(self.folder, self.adapter, scheduler or {})
        unused = loading.left_aside(self.folder, self.adapter, without)
        if self.single_file is not None:
            self.pipe = loading.load_single_file(self.single_file, self.folder, weights, self.dtype, unused, ours)
        else:
            self.pipe = loading.load(self.folder, weights, self.adapter, self.dtype, variant, unused, ours)
        self.loaded = {"dtype": dtype, "variant": variant, "revision": revision, **unused}
        """Arguments of ``DiffusionPipeline.from_pretrained`` that load the same pipeline."""
        self.network = getattr(self.pipe, self.adapter.part)
        self.distilled = distilled.signs(weights, self.pipe, self.network, fused.path if fused is not None else None)
        """Signs that the model is distilled to few steps, in words; None without one."""
        if getattr(self.network.config, "time_cond_proj_dim", None) is not None:
            raise GraftError(
                f"{weights} is a consistency model, distilled to few steps: give the model it was made from"
            )
        self.path = weights if _local(weights) is None else str(self.folder.resolve())
        self.sha256 = _hash(self.folder, self.adapter)
        if self.single_file is not None:
            self.path, self.loaded = str(self.single_file.resolve()), {"dtype": dtype, **unused}
            self.loaded["config"] = (
                str(self.folder.resolve()) if _local(str(single_file_config)) else single_file_config
            )
            self.sha256 = checksum({"file": file_checksum(self.single_file), "configurations": self.sha256})
        self.fused = fused
        if fused is not None:
            self.sha256 = checksum(
                {"pipeline": self.sha256, "lora": fuse(self.pipe, self.adapter.part, fused), "scale": fused.scale}
            )
        for name in (*self.adapter.text, *self.adapter.decoders):
            part = getattr(self.pipe, name, None)
            if part is not None:
                part.requires_grad_(False).eval()
        if self.memory.gradient_checkpointing:
            self.network.enable_gradient_checkpointing()
        if self.memory.attention_slicing:
            self.pipe.enable_attention_slicing()
        if self.memory.vae_slicing:
            self._vae("vae_slicing").enable_slicing()
        if self.memory.vae_tiling:
            self._vae("vae_tiling").enable_tiling()

    def _vae(self, setting: str) -> Any:
        """Return the VAE.

        Raises:
            GraftError: The pipeline's decoder is another kind, which has no such setting.
        """
        vae = getattr(self.pipe, "vae", None)
        if vae is None:
            raise GraftError(f"model.memory.{setting} is set, and the pipeline has no VAE; leave it out")
        return vae

    def process(self, steps: int, settings: PromptSettings, eta: float, guided: bool = False) -> LatentGaussian:
        """Return the process of the scheduler (`domains.images.text.process.process`)."""
        limits.check("model.steps", steps, 1)
        shape = self.adapter.latent_shape(self.pipe, settings)
        further = self.adapter.set_timesteps_kwargs(self, steps, settings)
        return process(self.pipe.scheduler, steps, shape, eta, guided, self.adapter.noise_order(), **further)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return (B, 3, H, W) float32 pixels, whole numbers from 0 to 255, of (B, ...) latents."""
        return self.adapter.decode(self, latents)

    @contextmanager
    def on(self, device: torch.device, names: Sequence[str]) -> Iterator[None]:
        """Have components on a device; with ``memory.offload`` they return to CPU memory."""
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
    path = Path(weights).expanduser()
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


def single_file(weights: str, config: "str | None") -> "Path | None":
    """Return the file of a single-file checkpoint; None for a folder or a name on the hub.

    Args:
        weights: Path or name of the pipeline.
        config: Folder of its configurations.

    Raises:
        GraftError: A single file has no configurations, or configurations have no single file.
    """
    path = Path(weights).expanduser()
    if not path.is_file() or path.suffix.lower() not in SINGLE_FILES:
        if config is not None:
            raise GraftError(f"model.single_file_config is set, and model.weights, {weights}, is no single file")
        return None
    if config is None:
        raise GraftError(
            f"{weights} is a single file without configurations: set model.single_file_config to a folder of the "
            "pipeline it was made from, or to its name on the hub"
        )
    return path


def _local(weights: str) -> "Path | None":
    """Return the folder of a pipeline here or in the installed packages; None if there is none."""
    path = Path(weights).expanduser()
    if path.is_dir():
        return path
    return next((root / weights for root in search_paths() if (root / weights / "model_index.json").is_file()), None)


def _adapter(path: Path, weights: str, adapter: "PipelineAdapter | None") -> PipelineAdapter:
    try:
        index = parse_json((path / "model_index.json").read_text(encoding="utf-8-sig"))
        name = str(index["_class_name"])
    except FileNotFoundError:
        single = sorted(file.name for file in path.iterdir() if file.suffix.lower() in SINGLE_FILES)
        other = f", or {single[0]} in it with model.single_file_config" if single else ""
        raise GraftError(
            f"{weights} is no diffusers pipeline: it has no model_index.json; give the folder that save_pretrained "
            f"made{other}"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise GraftError(f"{path / 'model_index.json'} is damaged ({error})") from None
    adapter = adapter or default_adapter(name)
    adapter.read_index(index, weights)
    for part in adapter.needed:
        if not loading.present(index, part) or not (path / part).is_dir():
            raise GraftError(f"the pipeline {weights} lacks its component {part!r}: fetch or save it again")
    return adapter


def _solver(path: Path, adapter: PipelineAdapter, changes: dict[str, Any]) -> Any:
    import diffusers

    name = loading.index(path)["scheduler"][1]
    if not hasattr(diffusers, name):
        raise GraftError(f"this diffusers has no {name}, the scheduler of {path}: install a newer one")
    try:
        theirs = getattr(diffusers, name).from_pretrained(path, subfolder="scheduler")
    except Exception as error:  # diffusers raises errors of a dozen types
        raise GraftError(f"the scheduler of {path} cannot be loaded: {first_line(error)}") from None
    corrected = {key: value for key, value in adapter.scheduler_overrides.items() if key in theirs.config}
    return sampling_scheduler(theirs, {**corrected, **changes})


def _hash(path: Path, adapter: PipelineAdapter) -> str:
    """Return the hash of the denoiser's files and of every component's configuration."""
    chosen = sorted({*path.glob("*/*.json"), *(path / adapter.part).rglob("*")})
    return checksum({file.relative_to(path).as_posix(): file_checksum(file) for file in chosen if file.is_file()})
