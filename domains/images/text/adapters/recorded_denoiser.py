"""The denoiser of a recorded pipeline, called with the recorded arguments of each prompt."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from typing_extensions import override

from domains.images.text.adapters import replay
from domains.images.text.adapters.base import PromptedNetwork, PromptSettings, PromptStore
from domains.images.text.adapters.guided import Guided
from domains.images.text.adapters.recorded_call import Arguments, RecordedCall
from graft.core.state import Condition
from graft.io.fingerprint import fingerprint_hash

if TYPE_CHECKING:
    from domains.images.text.pipeline import Pipeline


class RecordedPrompts(PromptStore):
    """The denoiser's arguments for each prompt, recorded at first use and kept in CPU memory.

    Args:
        pipeline: Pipeline with the text encoders.
        prompts: Prompts.
        call: How the pipeline calls its denoiser.
        record: Function of a prompt and a device that returns the arguments.
    """

    def __init__(
        self,
        pipeline: "Pipeline",
        prompts: "list[str]",
        call: RecordedCall,
        record: Callable[[str, torch.device], Arguments],
    ) -> None:
        super().__init__(pipeline)
        self._prompts, self._call, self._record = prompts, call, record
        self._kept: dict[int, Arguments] = {}
        self._last: tuple[Any, Any] = (None, None)

    def batches(self, prompt: Tensor) -> "list[tuple[list[int], list[Arguments]]]":
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
            groups = self._call.groups([self._row(index) for index in indices])
            self._last = (prompt, [(group, [rows[i] for i in group]) for group in groups])
        found: list[tuple[list[int], list[Arguments]]] = self._last[1]
        return found

    def _row(self, index: int) -> Arguments:
        if index not in self._kept:
            self.calls += 1
            self._kept[index] = self._record(self._prompts[index], self.device)
        return self._kept[index]


class RecordedDenoiser(PromptedNetwork):
    """A pipeline's denoiser, called with recorded arguments.

    Prompts whose arguments have other shapes are other calls.

    Args:
        texts: Arguments for each prompt.
        recorded_call: How the pipeline calls its denoiser.
        guided: How the pipeline joins the branches of its guidance.
        settings: Prompts, guidance and size of the pictures.
        call: Further arguments of the pipeline's call.
    """

    def __init__(
        self,
        texts: RecordedPrompts,
        recorded_call: RecordedCall,
        guided: Guided,
        settings: PromptSettings,
        call: dict[str, Any],
    ) -> None:
        super().__init__(texts.pipeline.network, texts, settings.guidance)
        # part of the fingerprint, since rounds hold the prompts' indices and draws depend on the call
        self.prompts, self.call = fingerprint_hash(list(settings.prompts)), call
        self._recorded, self._recorded_call, self._guided = texts, recorded_call, guided

    @override
    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """Return the output in the type of the state; ``alone`` in the condition turns guidance off."""
        rule = self._guided
        alone = "alone" in condition and rule.scale is not None
        places: list[int] = []
        outputs: list[Tensor] = []
        for indices, rows in self._recorded.batches(condition["prompt"]):
            x, t = state[indices], time[indices]
            if not alone:
                outputs.append(rule.mix(self._recorded_call.branches(self.network, rows, x, t)))
                places += indices
                continue
            negative = [condition["prompt"][i].item() < 0 for i in indices]
            for branch, wanted in ((rule.conditional, False), (rule.unconditional, True)):
                chosen = [i for i, dropped in enumerate(negative) if dropped is wanted]
                if chosen:
                    few = [rows[i] for i in chosen]
                    (found,) = self._recorded_call.branches(self.network, few, x[chosen], t[chosen], branch)
                    outputs.append(rule.sign * found)
                    places += [indices[i] for i in chosen]
        order = torch.tensor(places, device=state.device).argsort()
        return torch.cat(outputs)[order].to(state.dtype)
