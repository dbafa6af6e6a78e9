"""The denoiser with its prompts and its guidance, as a network of the core."""

from typing import Any

import torch
from torch import Tensor, nn

from domains.images.text.families import Given, PipelineAdapter
from domains.images.text.guidance import Guidance
from domains.images.text.pipeline import Pipeline
from graft.fingerprint import fingerprint_hash
from graft.state import Condition


class PromptEmbeddings:
    """What each prompt is to the network: encoded once, when it is first drawn, and kept in the processor's memory.

    Args:
        pipeline: Its text encoders do it.
        prompts: All of them.
        negative: The negative one.
        shape: Of the latents.
    """

    def __init__(
        self, pipeline: Pipeline, prompts: "list[str]", negative: "str | None", shape: tuple[int, int, int]
    ) -> None:
        self.pipeline, self.prompts, self.negative, self.shape = pipeline, prompts, negative, shape
        self.calls = 0
        self.device = torch.device("cpu")  # where prompts were last asked for
        self._kept: dict[int, Given] = {}
        self._last: tuple[Any, ...] = (None, None, None)

    def __deepcopy__(self, _: Any) -> "PromptEmbeddings":
        return self  # the reference's copy asks the same text encoders

    def row(self, index: int, device: torch.device) -> Given:
        """Of prompt ``index``; −1 is the negative one."""
        if index not in self._kept:
            self.calls += 1
            if index < 0:
                self._kept[index] = self.pipeline.negative(self.negative, self.shape, device)
            else:
                # one by one: what a prompt is does not depend on its neighbours
                self._kept[index] = self.pipeline.encode(self.prompts[index], self.shape, device)
        return self._kept[index]

    def rows(self, prompt: Tensor, guided: bool, dtype: torch.dtype) -> Given:
        """(B, ...) of prompts (B,), or (2B, ...): as many negative ones first.

        Those of the last tensor of prompts are kept on its device: all steps of a batch have the same one.
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
    """(latents (B, C, H, W), time (B,), {"prompt": (B,)}) -> the guided output.

    Args:
        pipeline: Of which the network is a part.
        texts: What its prompts are.
        guidance: How strongly they guide.
    """

    def __init__(self, pipeline: Pipeline, texts: PromptEmbeddings, guidance: Guidance) -> None:
        super().__init__()
        self.network = pipeline.network
        self.guidance = guidance
        self.prompts = fingerprint_hash(texts.prompts)  # a part of what it is: rounds hold the prompts' numbers
        self._dtype = pipeline.dtype
        self._family: PipelineAdapter = pipeline.family
        self._texts = texts

    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """The output, in float32 whatever the network computes in; ``alone`` in the condition leaves guidance out."""
        dtype = self._dtype
        guided = self.guidance.on and "alone" not in condition
        given = self._texts.rows(condition["prompt"], guided, dtype)
        x = state.to(dtype)
        if guided:
            x, time = torch.cat([x, x]), torch.cat([time, time])
        output = self._family.call(self.network, x, time, given, self.guidance.embedded_guidance_scale)
        return (self.guidance.mix(output) if guided else output).to(state.dtype)
