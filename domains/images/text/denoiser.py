"""The denoiser with its prompts and its guidance, as a network of graft."""

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from domains.images.text.families import Given, PipelineAdapter
from domains.images.text.guidance import Guidance
from domains.images.text.pipeline import Pipeline
from graft.core.state import Condition
from graft.io.fingerprint import fingerprint_hash


class PromptEmbeddings:
    """Embeddings of prompts, encoded at first use and kept in CPU memory.

    Args:
        pipeline: Pipeline with the text encoders.
        prompts: All prompts.
        negative: Negative prompt; None for the pipeline's own.
        shape: (C, H, W) of the latents.
    """

    def __init__(
        self, pipeline: Pipeline, prompts: "list[str]", negative: "str | None", shape: tuple[int, int, int]
    ) -> None:
        self.pipeline, self.prompts, self.negative, self.shape = pipeline, prompts, negative, shape
        self.calls = 0
        self.device = torch.device("cpu")  # device of the last call
        self._kept: dict[int, Given] = {}
        self._last: tuple[Any, ...] = (None, None, None)

    def __deepcopy__(self, _: Any) -> "PromptEmbeddings":
        return self  # the reference's copy shares the text encoders

    def row(self, index: int, device: torch.device) -> Given:
        """Return the embedding of prompt ``index``; −1 is the negative prompt."""
        if index not in self._kept:
            self.calls += 1
            if index < 0:
                self._kept[index] = self.pipeline.negative(self.negative, self.shape, device)
            else:
                # one at a time, so that an embedding does not depend on other prompts
                self._kept[index] = self.pipeline.encode(self.prompts[index], self.shape, device)
        return self._kept[index]

    def rows(self, prompt: Tensor, guided: bool, dtype: torch.dtype) -> Given:
        """Return (B, ...) embeddings of prompts (B,), or (2B, ...) with as many negative ones first.

        The embeddings of the last tensor of prompts stay on its device, since all steps of a batch have the same
        tensor.

        Args:
            prompt: (B,) indices of prompts.
            guided: Put the negative prompt first.
            dtype: Type of the embeddings.
        """
        self.device = prompt.device
        key, how, last = self._last
        if key is prompt and how == (guided, dtype):
            assert isinstance(last, dict)
            return last
        indices = prompt.tolist()
        rows = [self.row(index, prompt.device) for index in ([-1] * len(indices) if guided else []) + indices]
        given = {name: torch.cat([row[name] for row in rows]).to(prompt.device, dtype) for name in rows[0]}
        self._last = (prompt, (guided, dtype), given)
        return given


class Denoiser(nn.Module):
    """A network (latents (B, C, H, W), time (B,), {"prompt": (B,)}) -> the guided output.

    Args:
        pipeline: Pipeline of the network.
        texts: Embeddings of the prompts.
        guidance: Strength of the guidance.
    """

    def __init__(self, pipeline: Pipeline, texts: PromptEmbeddings, guidance: Guidance) -> None:
        super().__init__()
        self.network = pipeline.network
        self.guidance = guidance
        # part of the fingerprint, since rounds hold the prompts' indices
        self.prompts = fingerprint_hash(texts.prompts)
        self._dtype = pipeline.dtype
        self._family: PipelineAdapter = pipeline.family
        self._texts = texts

    @override
    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """Return the output in the type of the state; ``alone`` in the condition turns guidance off."""
        dtype = self._dtype
        guided = self.guidance.on and "alone" not in condition
        given = self._texts.rows(condition["prompt"], guided, dtype)
        x = state.to(dtype)
        if guided:
            x, time = torch.cat([x, x]), torch.cat([time, time])
        output = self._family.call(self.network, x, time, given, self.guidance.embedded_guidance_scale)
        return (self.guidance.mix(output) if guided else output).to(state.dtype)
