"""The denoiser with its prompts and its guidance, as a network of graft."""

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from domains.images.text.adapters.base import Given, PromptedNetwork, PromptSettings, PromptStore
from domains.images.text.adapters.encoded import EncodedAdapter
from domains.images.text.guidance import Guidance
from domains.images.text.pipeline import Pipeline
from graft.core.state import Condition
from graft.io.fingerprint import fingerprint_hash


class PromptEmbeddings(PromptStore):
    """Embeddings of prompts, encoded at first use and kept in CPU memory.

    Args:
        pipeline: Pipeline with the text encoders.
        adapter: Adapter of the pipeline.
        settings: Prompts, negative prompt and size of the pictures.
    """

    def __init__(self, pipeline: Pipeline, adapter: EncodedAdapter, settings: PromptSettings) -> None:
        super().__init__(pipeline)
        self.adapter, self.prompts = adapter, list(settings.prompts)
        self.negative, self.pixels = settings.guidance.negative_prompt, adapter.pixels(pipeline.pipe, settings)
        self._kept: dict[int, Given] = {}
        self._last: tuple[Any, ...] = (None, None, None)

    def row(self, index: int, device: torch.device) -> Given:
        """Return the embedding of prompt ``index``; −1 is the negative prompt."""
        if index not in self._kept:
            self.calls += 1
            # one at a time, so that an embedding does not depend on other prompts
            self._kept[index] = self._encoded(index, device)
        return self._kept[index]

    @torch.no_grad()
    def _encoded(self, index: int, device: torch.device) -> Given:
        pipe = self.pipeline.pipe
        with self.pipeline.on(device, self.adapter.text):
            if index < 0:
                given = self.adapter.negative(pipe, self.negative, device)
            else:
                given = self.adapter.encode(pipe, self.prompts[index], device)
        height, width = self.pixels
        size = torch.tensor([[height, width, 0, 0, height, width]], dtype=next(iter(given.values())).dtype)
        return {name: value.detach().cpu() for name, value in given.items()} | {"size": size}

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


class Denoiser(PromptedNetwork):
    """A network (latents (B, C, H, W), time (B,), {"prompt": (B,)}) -> the guided output.

    Args:
        pipeline: Pipeline of the network.
        adapter: Adapter of the pipeline.
        texts: Embeddings of the prompts.
        guidance: Strength of the guidance.
    """

    def __init__(
        self, pipeline: Pipeline, adapter: EncodedAdapter, texts: PromptEmbeddings, guidance: Guidance
    ) -> None:
        super().__init__(pipeline.network, texts, guidance)
        # part of the fingerprint, since rounds hold the prompts' indices
        self.prompts = fingerprint_hash(texts.prompts)
        self._dtype = pipeline.dtype
        self._adapter, self._embeddings = adapter, texts

    @override
    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """Return the output in the type of the state; ``alone`` in the condition turns guidance off."""
        dtype = self._dtype
        guided = self.guidance.on and "alone" not in condition
        given = self._embeddings.rows(condition["prompt"], guided, dtype)
        x = state.to(dtype)
        if guided:
            x, time = torch.cat([x, x]), torch.cat([time, time])
        output = self._adapter.call(self.network, x, time, given, self.guidance.embedded_guidance_scale)
        return (self.guidance.mix(output) if guided else output).to(state.dtype)
