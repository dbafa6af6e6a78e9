"""Trials of the hooks and parts that sample: conditions, the network on this and another device, decoding."""

import copy
from typing import Any

import torch
from torch import Tensor

from graft.commands.check.trials import (
    COUNT,
    Trial,
    Trials,
    describe_shapes,
    equal_conditions,
    fields_by_name,
    of_field,
    on_device,
)
from graft.core import seeding
from graft.core.datatypes import SampleRequest
from graft.core.state import Condition, State
from graft.errors import GraftError
from graft.module import GraftModule


class SamplingTrials(Trials):
    """Try conditions, the process, the network and the samples.

    Args:
        module: The model.
        results: Results so far.

    Attributes:
        condition: Conditions of the samples; None if they failed.
        state: States of the noise; None if the network failed.
        items: Decoded samples; None if decoding failed.
    """

    def __init__(self, module: GraftModule, results: list[Trial]) -> None:
        super().__init__(module, results)
        self.condition: Condition | None = None
        self.state: State | None = None
        self.items: list[Any] | None = None

    def run(self) -> None:
        """Run the trials; each needs the one before."""
        if self.attempt("sample_conditions", self._conditions, "sample_conditions"):
            self.attempt("group", self._group)
            if self.attempt("network", self._network) and self.attempt("device", self._device):
                self.attempt("decode", self._decode, "decode")

    def _conditions(self) -> str:
        def sampled(seed: int, count: int = COUNT) -> Condition:
            generator = seeding.make_generator(seed, "check")
            return self.module.conditions_for(("check", 0), 0, count, generator)

        condition = sampled(0)
        if not isinstance(condition, dict) or not any(isinstance(each, Tensor) for each in condition.values()):
            raise GraftError(
                f"{self.kind}.sample_conditions returned {type(condition).__name__}; it must return a dict of tensors"
            )
        for count, found in ((COUNT, condition), (1, sampled(0, 1))):
            for name, value in found.items():
                if isinstance(value, Tensor) and (value.ndim == 0 or len(value) != count):
                    raise GraftError(
                        f"{self.kind}.sample_conditions returned {name!r} of shape {tuple(value.shape)} for {count} "
                        f"samples; its first dimension must be {count}"
                    )
        if not equal_conditions(condition, sampled(0)):
            raise GraftError(
                f"{self.kind}.sample_conditions returned other conditions for the same generator. Draw all random "
                "numbers from the generator that it gets."
            )
        self.condition = condition
        return describe_shapes(condition)

    def _group(self) -> str:
        assert self.condition is not None
        return f"{len(set(self.module.group(self.condition).tolist()))} of {COUNT} differ"

    def _network(self) -> str:
        assert self.condition is not None
        policy, condition = self.module.policy, on_device(self.condition, self.module.device)
        state = policy.process.prior(condition, seeding.make_generator(0, "check"))
        time = policy.process.timestep(1.0).to(self.module.device).float().expand(COUNT)
        output = policy.backbone(state, time, condition)
        ours, theirs = fields_by_name(state), fields_by_name(output)
        for name, value in ours.items():
            found = theirs.get(name)
            if not isinstance(found, Tensor) or found.shape != value.shape:
                shown = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(output).__name__
                raise GraftError(
                    f"the network returned {shown} for a state of shape {tuple(value.shape)}{of_field(name)}; its "
                    "output must have the shape of the state"
                )
            if not bool(found.isfinite().all()):
                raise GraftError(
                    f"the network returned values that are not finite{of_field(name)} for the noise of a sample"
                )
        self.state = state
        return describe_shapes(state)

    def _device(self) -> str:
        """Call the network on another device, where a tensor that it makes on the processor fails."""
        assert self.condition is not None and self.state is not None
        device = torch.device("cuda" if torch.cuda.is_available() else "meta")
        network = copy.deepcopy(self.module.policy.backbone).to(device)
        state, condition = on_device(self.state, device), on_device(self.condition, device)
        try:
            network(state, self.module.policy.process.timestep(1.0).float().expand(COUNT).to(device), condition)
        except Exception as error:
            text = " ".join(str(error).split())
            if "device" in text and "cpu" in text and "copy out of meta" not in text:
                raise GraftError(
                    f"the network makes a tensor on the processor while its inputs are elsewhere ({text[:120]}). Give "
                    "new tensors the device of the inputs."
                ) from None
            if device.type == "cuda":
                raise
            return "left out: the network looks at values"  # which a device without memory does not have
        return str(device)

    def _decode(self) -> str:
        assert self.condition is not None
        device = self.module.device
        request = SampleRequest(on_device(self.condition, device), ("check", 0), "tuned")
        drawn = self.module.policy.sample(request, seeding.make_generator(0, "check"))
        self.items = self.module.decode(drawn.state, self.condition)
        if self.module.supports("key"):
            again = self.module.decode(drawn.state, self.condition)
            if [self.module.key(each) for each in self.items] != [self.module.key(each) for each in again]:
                raise GraftError(f"{self.kind}.decode returned other objects for the same state; it must not be random")
        return f"{COUNT} of {type(self.items[0]).__name__}"
