"""The text-to-image domain: a `graft.GraftModule` of a diffusers pipeline."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torchmetrics import Metric
from typing_extensions import override

from domains.images import metrics
from domains.images.data import read_tensor
from domains.images.features import Features, Pixels
from domains.images.keys import PixelHash
from domains.images.picture_module import PictureModule
from domains.images.pixels import to_pil
from domains.images.text import distilled, export, prompts
from domains.images.text.adapters import PipelineAdapter, PromptSettings
from domains.images.text.fused_lora import FusedLoRA
from domains.images.text.guidance import Guidance
from domains.images.text.pipeline import Memory, Pipeline
from graft import GraftError
from graft.core import limits, seeding
from graft.core.datatypes import TrainingBatch
from graft.core.distributed import rank_zero_print
from graft.core.state import Condition, State
from graft.io.atomic import atomic_write

EVALUATED = ("validation", "test", "sample", "predict")  # purposes of draws that are not trained on


class TextToImage(PictureModule):
    """Pictures of prompts, by a diffusers pipeline: SD 1.x, SD 2.x, SDXL, SD 3 or FLUX.

    The state is the latent (B, C, H, W). The condition is {"prompt": (B,)}, the index of the prompt. Objects are
    `PIL.Image.Image` with ``prompt`` and ``tag`` in their ``info``.

    Args:
        weights: Folder of the pipeline, its name on the hub, or a single file of Stability's or kohya's kind.
        prompts: File of prompts, or several (`domains.images.text.prompts.read`).
        evaluation_prompts: Prompts for validation, comparison and samples; the same ones if not given.
        prompt_column: Column or key of the prompts in CSV and JSON files.
        num_images_per_prompt: M, number of draws of a prompt in a round, among which acceptance chooses. Evaluation has
            one draw of each prompt.
        steps: Number of steps of the sampler, which is DDIM or, for flows, Euler's method.
        eta: Noise of the steps: 0 is deterministic, 1 reverses the process in distribution (DDPM).
        guidance: Classifier-free guidance; `Guidance()` if not given.
        height: Height of the pictures in pixels; that of the training if not given.
        width: Width of the pictures in pixels; that of the training if not given.
        dtype: Type of the pipeline's parts; adapters and latents stay float32.
        variant: Variant of the weight files, such as ``fp16``.
        revision: Revision on the hub.
        scheduler: Changes of the scheduler's configuration, such as ``{timestep_spacing: trailing}``.
        memory: Settings that save memory.
        skip_components: Components that are not loaded, such as ``[text_encoder_3, tokenizer_3]`` of SD 3, to save
            memory.
        sample_batch: Number of draws at a time if ``data.batch_size`` is not given.
        adapter: Adapter of the pipeline. If not given, the classes of `domains.images.text.adapters` serve their
            pipelines, and `domains.images.text.adapters.RecordedAdapter` serves every other one.
        single_file_config: Folder of a pipeline's configurations, if ``weights`` is a single file.
        fused_lora: LoRA adapter of diffusers that the reference begins with; tuning continues from there.
        features: Features for diversity, distances and similarity; small grey pictures if not given.
        real: Real pictures for comparison (a folder, an .npz), scaled to the model's own size; without them there is no
            FID.
        **kwargs: Arguments of `graft.GraftModule`.
    """

    def __init__(
        self,
        weights: str,
        prompts: "str | list[str]",
        evaluation_prompts: "str | list[str] | None" = None,
        prompt_column: "str | None" = None,
        num_images_per_prompt: int = 8,
        steps: int = 50,
        eta: float = 0.0,
        guidance: "Guidance | None" = None,
        height: "int | None" = None,
        width: "int | None" = None,
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        variant: "str | None" = None,
        revision: "str | None" = None,
        scheduler: "dict[str, Any] | None" = None,
        memory: "Memory | None" = None,
        skip_components: "list[str] | None" = None,
        sample_batch: int = 8,
        adapter: "PipelineAdapter | None" = None,
        fused_lora: "FusedLoRA | None" = None,
        single_file_config: "str | None" = None,
        features: "Features | None" = None,
        real: "str | None" = None,
        **kwargs: Any,
    ) -> None:
        limits.check("model.num_images_per_prompt", num_images_per_prompt, 1)
        limits.check("model.sample_batch", sample_batch, 1)
        guidance = guidance or Guidance()
        found, evaluated = _prompts(prompts, evaluation_prompts, prompt_column)
        how = (variant, revision, scheduler, memory, skip_components or (), adapter, fused_lora, single_file_config)
        pipeline = Pipeline(weights, dtype, *how)
        if dtype != "float32" and kwargs.get("lora") is None:
            raise GraftError(f"in {dtype} the steps of training are lost to rounding: use model.lora, or dtype float32")
        if pipeline.distilled and (advice := distilled.advice(pipeline.distilled, steps, guidance.on)):
            rank_zero_print(advice)
        settings = PromptSettings([prompt.text for prompt in found], guidance, height, width)
        pipeline.adapter.open(pipeline, settings)
        denoiser = pipeline.adapter.denoiser(pipeline, settings)
        super().__init__(
            denoiser,
            pipeline.process(steps, settings, eta, guidance.on),
            weights=weights,
            steps=steps,
            **kwargs,
        )
        self._pipeline, self._settings, self._texts = pipeline, settings, denoiser.texts
        self.prompts, self.eval_prompt_indices, self.num_images_per_prompt = found, evaluated, num_images_per_prompt
        self.guidance, self.default_batch_size = guidance, sample_batch
        self.feature_extractor, self.keys = features or Pixels(), PixelHash()
        self.real = None if real is None else _real(real, *pipeline.adapter.pixels(pipeline.pipe, settings))

    @override
    def load_reference(self, backbone: nn.Module, weights: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Return no statistics, and path and hash of the pipeline.

        The pipeline was loaded with its weights.
        """
        pipeline: Pipeline = backbone._texts.pipeline  # type: ignore[union-attr,assignment]
        return {}, {"path": pipeline.path, "sha256": pipeline.sha256}

    @override
    def sample_conditions(self, count: int, generator: Generator) -> Condition:
        """Return prompts in random order, each as often as the others."""
        prompts = torch.tensor(self.eval_prompt_indices)[
            torch.randperm(len(self.eval_prompt_indices), generator=generator)
        ]
        return {"prompt": prompts[torch.randperm(count, generator=generator) % len(prompts)]}

    @override
    def conditions_for(
        self, purpose: "tuple[int | str, ...]", start: int, count: int, generator: Generator
    ) -> Condition:
        """Return prompts in an order of each purpose; in rounds each stands M times in a row."""
        among = self.eval_prompt_indices if purpose[0] in EVALUATED else list(range(self.num_train_prompts))
        each = 1 if purpose[0] in EVALUATED else self.num_images_per_prompt
        order = torch.randperm(len(among), generator=seeding.make_generator(self.seed, "prompts", *purpose)).tolist()
        places = [(i // each) % len(among) for i in range(start, start + count)]
        return {"prompt": torch.tensor([among[order[place]] for place in places])}

    @property
    def num_train_prompts(self) -> int:
        """Return the number of prompts of rounds."""
        return self.eval_prompt_indices[0] if self.eval_prompt_indices[0] else len(self.prompts)

    @override
    def group(self, condition: Condition) -> Tensor:
        """Return (B,) index of the prompt."""
        return condition["prompt"]

    @override
    def augment(self, batch: TrainingBatch, generator: "Generator | None" = None) -> TrainingBatch:
        if not self.guidance.on or self.guidance.train != "conditional":
            return batch
        # the branch with the prompt alone is trained, and with some prompts dropped
        prompt = batch.condition["prompt"]
        dropped = seeding.uniform(len(prompt), generator) < self.guidance.prompt_dropout
        prompt = prompt.where(~dropped.to(prompt.device), -1)
        return replace(batch, condition={"prompt": prompt, "alone": prompt})

    @override
    def decode(self, state: State, condition: Condition) -> list[Any]:
        """Return pictures of 8 bits a channel.

        They are decoded on the device of the sampler, since Lightning has moved the state to the CPU.
        """
        assert isinstance(state, Tensor)
        pixels = self._pipeline.decode(state.to(self._texts.device))
        infos: list[dict[str, Any]] = []
        for index, finite in zip(
            condition["prompt"].tolist(), pixels.flatten(1).isfinite().all(1).tolist(), strict=True
        ):
            prompt = self.prompts[index]
            infos.append({"prompt": prompt.text} | ({"tag": prompt.tag} if prompt.tag else {}))
            infos[-1] |= {} if finite else {"failed": "pixels are not finite"}
        return to_pil(pixels.nan_to_num(0).to(torch.uint8), infos)

    @override
    def metrics(self) -> Mapping[str, Metric]:
        """Return diversity, and distances to real pictures if there are any."""
        return metrics.image_metrics(self.feature_extractor, self.real)

    @override
    def caption(self, item: Any) -> str:
        """Return the prompt of a picture."""
        return str(item.info["prompt"])

    @override
    def write(self, items: Sequence[Any], path: Path, rewards: "Sequence[float] | None" = None) -> None:
        """Write a folder of PNG files with a table, an ``.npz`` with ``prompts`` too, or a grid."""
        super().write(items, path, rewards)
        if path.suffix == ".npz":
            with np.load(io.BytesIO(path.read_bytes())) as stored:
                arrays = dict(stored) | {"prompts": np.array([item.info["prompt"] for item in items], np.str_)}
            with atomic_write(path) as temporary, open(temporary, "wb") as file:
                np.savez_compressed(file, allow_pickle=False, **arrays)

    @override
    def export(self, folder: Path) -> None:
        """Write the adapter or network for plain diffusers (`export.py`).

        Nothing is written for ``upper_level`` below 1, which diffusers' pipelines do not have.
        """
        if self.policy.interval.high < 1:
            rank_zero_print("nothing was written for plain diffusers: its pipelines have no model.upper_level below 1")
            return
        export.write(self, folder / "diffusers")


def _prompts(
    trained: "str | list[str]", evaluated: "str | list[str] | None", column: "str | None"
) -> "tuple[list[prompts.Prompt], list[int]]":
    """Return (all prompts, indices of those for evaluation); prompts for training come first."""
    found = prompts.read(trained, column)
    if evaluated is None:
        return found, list(range(len(found)))
    other = prompts.read(evaluated, column)
    return found + other, list(range(len(found), len(found) + len(other)))


def _real(source: str, height: int, width: int) -> Tensor:
    """Return (N, 3, H, W) uint8 pictures."""
    if height != width:
        raise GraftError(f"model.real is scaled to squares, and the pictures are {width}x{height}: leave it out")
    return read_tensor(source, height, 3)
