"""Load the parts of a diffusers pipeline; each is checked before anything is sampled."""

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from domains.images import pretrained
from domains.images.text.adapters.base import PipelineAdapter
from graft.errors import GraftError
from graft.io.json_files import parse_json

LIBRARIES = ("diffusers", "transformers")
NEEDED = ("diffusers", "transformers", "accelerate", "PIL")
"""Packages without which no pipeline is loaded."""


def require_packages() -> None:
    """Raise GraftError if a package of the extra ``text-to-image`` is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise GraftError(f"text-to-image needs {', '.join(missing)}: pip install 'graft-diffusion[text-to-image]'")


def index(path: Path) -> dict[str, Any]:
    """Return the pipeline's ``model_index.json``: its class, and the class of each component."""
    found: dict[str, Any] = parse_json((path / "model_index.json").read_text(encoding="utf-8-sig"))
    return found


def left_aside(path: Path, adapter: PipelineAdapter, without: Sequence[str]) -> dict[str, Any]:
    """Return arguments of ``from_pretrained`` for components that are not loaded.

    Args:
        path: Folder of the pipeline.
        adapter: Adapter of the pipeline.
        without: Components that the user leaves out.

    Raises:
        GraftError: The pipeline has no such component, or needs it.
    """
    named = index(path)
    for name in without:
        if name in adapter.needed or name not in named:
            spare = [each for each in named if not each.startswith("_") and each not in adapter.needed]
            raise GraftError(f"model.skip_components has {name!r}; it may have {', '.join(spare) or 'no component'}")
    unused: dict[str, Any] = dict.fromkeys(without)
    if "safety_checker" in named:  # the safety checker blackens pictures, and the reward would score black pictures
        unused |= {"safety_checker": None, "requires_safety_checker": False}
    empty = [name for name, value in named.items() if value == [None, None]]
    absent = {name: None for name in (*adapter.text, *adapter.tokenizers, *empty) if not present(named, name)}
    return absent | unused


def load(
    path: Path,
    weights: str,
    adapter: PipelineAdapter,
    dtype: torch.dtype,
    variant: "str | None",
    unused: Mapping[str, Any],
    scheduler: Any,
) -> Any:
    """Return the pipeline; all of its tensors are in its files.

    Args:
        path: Folder of the pipeline.
        weights: Name of the pipeline in messages.
        adapter: Adapter of the pipeline.
        dtype: Type of its parts.
        variant: Variant of the weight files, for parts that have it.
        unused: Arguments of `left_aside`.
        scheduler: Scheduler in place of the pipeline's own.

    Raises:
        GraftError: A part is missing, incomplete or of another kind.
    """
    from diffusers import DiffusionPipeline

    named = index(path)
    parts = [
        name for name in (adapter.part, *adapter.decoders, *adapter.text) if present(named, name) and name not in unused
    ]
    for name in parts:
        if not (path / name / "config.json").is_file():
            raise GraftError(f"the {name} of {weights} has no config.json: fetch or save the pipeline again")
    pretrained.check_adapters([path, *(path / name for name in parts)], weights)
    _check_channels(path, weights, adapter)
    own = _variants(path, weights, parts, variant)
    try:
        found = {
            name: pretrained.load_pretrained(
                _kind(named[name], weights), path / name, f"the {name} of {weights}", dtype=dtype, variant=own[name]
            )
            for name in parts
        }
        with pretrained.quiet():
            pipe: Any = DiffusionPipeline.from_pretrained(path, scheduler=scheduler, **found, **unused)
    except GraftError:
        raise
    except Exception as error:  # diffusers raises errors of a dozen types
        why = pretrained.first_line(error)
        raise GraftError(f"{weights} cannot be loaded as a diffusers pipeline: {why}") from None
    check_tokenizers(pipe, path, weights)
    return pipe


def load_single_file(
    file: Path, path: Path, weights: str, dtype: torch.dtype, unused: Mapping[str, Any], scheduler: Any
) -> Any:
    """Return the pipeline of a single file; all of its tensors have values.

    Args:
        file: File of the checkpoint.
        path: Folder with the configurations of the pipeline.
        weights: Name of the pipeline in messages.
        dtype: Type of its parts.
        unused: Arguments of `left_aside`.
        scheduler: Scheduler in place of the pipeline's own.

    Raises:
        GraftError: The file is another kind of checkpoint, or lacks tensors.
    """
    import diffusers

    name = index(path)["_class_name"]
    kind = getattr(diffusers, name, None)
    if kind is None or not hasattr(kind, "from_single_file"):
        raise GraftError(f"{name} of {path} has no single-file checkpoints: set model.weights to a folder")
    try:
        with pretrained.quiet():
            pipe = kind.from_single_file(str(file), config=str(path), dtype=dtype, scheduler=scheduler, **unused)
    except Exception as error:  # diffusers raises errors of a dozen types
        why = pretrained.first_line(error)
        raise GraftError(f"{weights} cannot be loaded with the configurations of {path}: {why}") from None
    for part, network in pipe.components.items():
        if isinstance(network, nn.Module):
            pretrained.check_values(network, f"the {part} of {weights}")
    check_tokenizers(pipe, path, weights)
    return pipe


def check_tokenizers(pipe: Any, path: Path, weights: str) -> None:
    """Raise GraftError if a tokenizer lacks its files; transformers makes one without words of an empty folder.

    Args:
        pipe: Pipeline.
        path: Folder of the pipeline, or of its configurations.
        weights: Name of the pipeline in messages.
    """
    from transformers import PreTrainedTokenizerBase

    for name, part in pipe.components.items():
        if not isinstance(part, PreTrainedTokenizerBase):
            continue
        own = dict(part.vocab_files_names)
        whole, several = own.pop("tokenizer_file", "tokenizer.json"), list(own.values()) or ["tokenizer.model"]
        there = {file.name for file in (path / name).iterdir()}
        if part.vocab_files_names and not (
            whole in there or there.issuperset(several)
        ):  # tokenizers of bytes have none
            raise GraftError(
                f"the {name} of {weights} has no vocabulary: it needs {whole} or {' and '.join(several)}; "
                "fetch or save the pipeline again"
            )
        if "tokenizer_config.json" not in there:
            raise GraftError(f"the {name} of {weights} has no tokenizer_config.json: fetch or save the pipeline again")


def present(named: Mapping[str, Any], name: str) -> bool:
    """Return True if the pipeline has the component."""
    component = named.get(name)
    return isinstance(component, list) and len(component) == 2 and all(isinstance(each, str) for each in component)


def _kind(component: "list[str]", weights: str) -> Any:
    """Return the class of a component.

    Raises:
        GraftError: The class is not a network of diffusers or transformers.
    """
    library, name = component
    kind = getattr(importlib.import_module(library), name, None) if library in LIBRARIES else None
    if not isinstance(kind, type) or not issubclass(kind, nn.Module):
        raise GraftError(f"{weights} has a component {name} of {library}, which is no network that is known here")
    return kind


def _check_channels(path: Path, weights: str, adapter: PipelineAdapter) -> None:
    """Raise GraftError if the denoiser's channels differ from those of the latents."""
    denoiser, vae = _config(path / adapter.part), _config(path / "vae")
    latents, taken, given = vae.get("latent_channels"), denoiser.get("in_channels"), denoiser.get("out_channels")
    if not isinstance(latents, int) or not isinstance(taken, int):
        return
    channels = adapter.channels(SimpleNamespace(config=SimpleNamespace(in_channels=taken)))
    if channels is None:
        return
    if channels != latents:
        raise GraftError(
            f"the {adapter.part} of {weights} takes {channels} channels, but its latents have {latents}: it is a model "
            "for inpainting or editing, which is given a picture too; give the text-to-image model"
        )
    if adapter.part == "unet" and isinstance(given, int) and given != latents:
        raise GraftError(f"the unet of {weights} gives {given} channels, but its latents have {latents}")


def _config(folder: Path) -> dict[str, Any]:
    """Return the configuration of a part, or {}.

    An unreadable one gives {}, since loading gives a better message.
    """
    try:
        found = parse_json((folder / "config.json").read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _variants(path: Path, weights: str, parts: Sequence[str], variant: "str | None") -> "dict[str, str | None]":
    """Return the variant of each part's weights: ``variant`` if the part has it, else None.

    Raises:
        GraftError: No part has the variant, or a part has only others.
    """
    there = {name: pretrained.variants(path / name) for name in parts}
    others = sorted({each for found in there.values() for each in found if each})
    if variant is not None and variant not in others:
        known = f"there {'is' if len(others) == 1 else 'are'} {', '.join(others)}" if others else "it has no variants"
        raise GraftError(f"model.variant is {variant!r}, and {weights} has no such weights: {known}")
    for name, found in there.items():
        if not found:
            raise GraftError(f"the {name} of {weights} has no weights: fetch or save the pipeline again")
        if variant not in found and "" not in found:
            raise GraftError(
                f"the {name} of {weights} has weights of the variant {' and '.join(sorted(found))} alone: set "
                f"model.variant to {sorted(found)[0]}"
            )
    return {name: variant if variant in found else None for name, found in there.items()}
