"""Text-to-image: diffusers pipelines of the Stable Diffusion family plugged into `graft.GraftModule`."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torchmetrics import Metric

from domains.images import files, grid, metrics
from domains.images.dataset.read import describe
from domains.images.dataset.read import read as read_pictures
from domains.images.features import Features, Pixels
from domains.images.keys import PixelHash
from domains.images.pixels import to_pil
from domains.images.text import export, prompts
from domains.images.text.denoiser import Denoiser, PromptEmbeddings
from domains.images.text.guidance import Guidance
from domains.images.text.pipeline import Memory, Pipeline
from graft import GraftError, GraftModule, seeding
from graft import files as core_files
from graft.batches import TrainingBatch
from graft.distributed import rank_zero_print
from graft.state import Condition, State

JUDGED = ("validation", "test", "sample", "predict")  # what draws are for that nothing is learned from


class TextToImage(GraftModule):
    """Pictures of prompts, by a diffusers pipeline: SD 1.x and 2.x (eps and v), SDXL, SD 3 and FLUX (flow).

    The state is the latent (B, C, H, W); the condition {"prompt": (B,)}, its number. Objects are `PIL.Image.Image` with
    ``prompt`` and ``tag`` in their ``info``.

    Args:
        weights: The pipeline's folder, or its name on the hub.
        prompts: File of prompts, or several; see `domains.images.text.prompts.read`.
        evaluation_prompts: Other ones for validation, comparison and samples; the same ones if not given.
        prompt_column: Column or key of the prompts in CSV and JSON files.
        num_images_per_prompt: M: draws under one prompt in a round, among which acceptance chooses. What is not learned
            from has one under each.
        steps: Of the sampler, which is DDIM or, for flows, Euler's method.
        eta: Noise of its steps: 0 is deterministic, 1 reverses the process in law (DDPM).
        guidance: Classifier-free guidance; see `Guidance`.
        height: Of the pictures, in pixels; as trained if not given.
        width: Likewise.
        dtype: Of the pipeline's parts; adapters and latents stay float32.
        variant: Of the weight files, such as ``fp16``.
        revision: On the hub.
        scheduler: Changes of the scheduler's configuration, such as ``{timestep_spacing: trailing}``.
        memory: What is given up for memory; see `Memory`.
        skip_components: Components that are not loaded, such as ``[text_encoder_3, tokenizer_3]`` of SD 3, to save
            memory.
        sample_batch: Draws at a time where ``data.batch_size`` does not say.
        features: What makes pictures alike, for diversity, distances and similarity; small grey pictures if not given.
        real: Pictures that results are compared with (a folder, an .npz), scaled to the model's own size; none if not
            given, and then no FID.
        **kwargs: See `graft.GraftModule`.
    """

    file_suffix = ".npz"
    file_suffixes = (".npz", ".png", "")

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
        features: "Features | None" = None,
        real: "str | None" = None,
        **kwargs: Any,
    ) -> None:
        if num_images_per_prompt < 1 or sample_batch < 1:
            raise GraftError("model.num_images_per_prompt and model.sample_batch are at least 1")
        guidance = guidance or Guidance()
        found, judged = _prompts(prompts, evaluation_prompts, prompt_column)
        pipeline = Pipeline(weights, dtype, variant, revision, scheduler, memory, skip_components or ())
        if dtype != "float32" and kwargs.get("lora") is None:
            raise GraftError(f"in {dtype} the steps of training are lost to rounding: use model.lora, or dtype float32")
        shape = pipeline.shape(height, width)
        texts = PromptEmbeddings(pipeline, [prompt.text for prompt in found], guidance.negative_prompt, shape)
        super().__init__(
            Denoiser(pipeline, texts, guidance),
            pipeline.process(steps, shape, eta, guidance.on),
            weights=weights,
            steps=steps,
            **kwargs,
        )
        self._pipeline, self._texts = pipeline, texts
        self.prompts, self.eval_prompt_indices, self.num_images_per_prompt = found, judged, num_images_per_prompt
        self.guidance, self.default_batch_size, self.alike = guidance, sample_batch, features or Pixels()
        factor = int(pipeline.pipe.vae_scale_factor)
        self.real = None if real is None else _real(real, shape[1] * factor, shape[2] * factor)

    def load_reference(self, backbone: nn.Module, weights: str) -> tuple[dict[str, Tensor], dict[str, str]]:
        """See `GraftModule.load_reference`: the pipeline came with its weights."""
        pipeline = backbone._texts.pipeline  # type: ignore[union-attr]
        return {}, {"path": pipeline.path, "sha256": pipeline.sha256}  # type: ignore[union-attr,dict-item]

    def sample_conditions(self, count: int, generator: Generator) -> Condition:
        """Prompts at random, each as often as the others."""
        prompts = torch.tensor(self.eval_prompt_indices)[
            torch.randperm(len(self.eval_prompt_indices), generator=generator)
        ]
        return {"prompt": prompts[torch.randperm(count, generator=generator) % len(prompts)]}

    def conditions_for(
        self, purpose: "tuple[int | str, ...]", start: int, count: int, generator: Generator
    ) -> Condition:
        """See `GraftModule.conditions_for`: all prompts in an order of each round's own, M draws of each in a row."""
        among = self.eval_prompt_indices if purpose[0] in JUDGED else list(range(self.num_train_prompts))
        each = 1 if purpose[0] in JUDGED else self.num_images_per_prompt
        order = torch.randperm(len(among), generator=seeding.make_generator(self.seed, "prompts", *purpose)).tolist()
        places = [(i // each) % len(among) for i in range(start, start + count)]
        return {"prompt": torch.tensor([among[order[place]] for place in places])}

    @property
    def num_train_prompts(self) -> int:
        """Prompts that rounds draw."""
        return self.eval_prompt_indices[0] if self.eval_prompt_indices[0] else len(self.prompts)

    def group(self, condition: Condition) -> Tensor:
        """(B,) the prompt."""
        return condition["prompt"]

    def loss(self, examples: TrainingBatch, generator: "Generator | None" = None) -> Tensor:
        """See `GraftModule.loss`; of the branch with the prompt alone, where guidance is not trained through."""
        if self.guidance.on and self.guidance.train == "conditional":
            prompt = examples.condition["prompt"]
            dropped = seeding.uniform(len(prompt), generator) < self.guidance.prompt_dropout
            prompt = prompt.where(~dropped.to(prompt.device), -1)
            condition = {"prompt": prompt, "alone": prompt}
            examples = TrainingBatch(
                examples.state, condition, examples.weight, examples.from_level, examples.x0_target
            )
        return super().loss(examples, generator)

    def decode(self, state: State, condition: Condition) -> list[Any]:
        """Pictures of 8 bits a channel; decoded where they were drawn, though Lightning has moved them since."""
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

    def key(self, item: Any) -> str:
        """The hash of its pixels."""
        return PixelHash()(item)

    def features(self, items: Sequence[Any]) -> Tensor:
        """See `domains.images.features`."""
        return self.alike(items)

    def metrics(self) -> Mapping[str, Metric]:
        """Return diversity, and distances to real pictures where there are any."""
        return metrics.image_metrics(self.alike, self.real)

    def render(self, items: Sequence[Any], legends: "Sequence[str] | None" = None) -> bytes:
        """The pictures in a grid."""
        return grid.draw(items, legends=legends)

    def write(self, items: Sequence[Any], path: Path, rewards: "Sequence[float] | None" = None) -> None:
        """A folder of PNG files with a table of prompts; an ``.npz`` with ``prompts`` too; one picture of all."""
        files.write(items, path, rewards)
        if path.suffix == ".npz":
            with np.load(io.BytesIO(path.read_bytes())) as stored:
                arrays = dict(stored) | {"prompts": np.array([item.info["prompt"] for item in items], np.str_)}
            with core_files.atomic_write(path) as temporary, open(temporary, "wb") as file:
                np.savez_compressed(file, allow_pickle=False, **arrays)

    def export(self, folder: Path) -> None:
        """The adapter (or the network) for plain diffusers, where it samples from the noise on; see `export.py`."""
        if self.upper_level < 1:
            rank_zero_print(
                "nothing was written for plain diffusers, whose pipelines know no model.upper_level below 1"
            )
            return
        export.write(self, folder / "diffusers")


def _prompts(
    trained: "str | list[str]", judged: "str | list[str] | None", column: "str | None"
) -> "tuple[list[prompts.Prompt], list[int]]":
    """(all prompts, the numbers of those that are judged): those that are learned from come first."""
    found = prompts.read(trained, column)
    if judged is None:
        return found, list(range(len(found)))
    other = prompts.read(judged, column)
    return found + other, list(range(len(found), len(found) + len(other)))


def _real(source: str, height: int, width: int) -> Tensor:
    """(N, 3, H, W) uint8."""
    if height != width:
        raise GraftError(f"model.real is scaled to squares, and the pictures are {width}x{height}: leave it out")
    found = read_pictures(source, height, 3)
    if found.left_out or found.notes:
        rank_zero_print(describe(found, source))
    return torch.from_numpy(found.pixels).movedim(-1, 1).contiguous()
