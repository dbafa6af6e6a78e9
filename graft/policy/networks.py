"""The trained network, its frozen reference and its moving average."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from graft.core.datatypes import Weights
from graft.core.state import Condition, State
from graft.errors import GraftError
from graft.network import EMA, LoRA, adapter_disabled, add_lora, eval_mode, frozen_copy, trainable_parameters
from graft.network.weights import persistent_buffers
from graft.policy.tuning import Tuning


class TunedNetwork(nn.Module):
    """The trained network with its frozen reference, from which it starts.

    Args:
        backbone: The network with the reference's weights, ``(state, time (B,), condition) -> output``.
        trained: The network that is trained in place of ``backbone``, which stays as the reference; a corrector's.
        lora: Settings of the trained adapters; None to train the whole network.
        tuning: Settings of training.
        reference_file: ``path`` and ``sha256`` of the reference's weights; None without a reference.
        in_memory: Weights of the reference, if they were given in memory.

    Attributes:
        backbone: The trained network.
        reference: The frozen reference; None without a reference, and with adapters, where the backbone without them is
            the reference.
        ema: Moving average of the trained weights, or None.
        behaviour: Weights that sample rounds, if the objective keeps other weights than the tuned ones; else None.
    """

    def __init__(
        self,
        backbone: nn.Module,
        trained: "nn.Module | None",
        lora: "LoRA | None",
        tuning: Tuning,
        reference_file: "dict[str, str] | None",
        in_memory: "dict[str, Tensor] | None",
    ) -> None:
        super().__init__()
        tuning.check()
        self.reference_file, self.in_memory = reference_file, in_memory
        self._trains_all = reference_file is None or trained is not None
        self.reference: nn.Module | None = None
        self.backbone = backbone
        if trained is not None:
            self.reference, self.backbone = backbone.requires_grad_(False).eval(), trained
        elif lora is not None:
            self.backbone = add_lora(backbone, lora)
        elif reference_file is not None:
            self.reference = frozen_copy(backbone)
        self.ema = EMA(self.backbone, tuning.ema_decay) if tuning.ema_decay is not None else None
        self.behaviour: EMA | None = None
        self._adapters_off = False
        self.compiled = bool(tuning.compile)
        if self.compiled:
            for network in self.networks():
                network.compile(backend="inductor" if tuning.compile is True else tuning.compile)
        self.register_state_dict_post_hook(_drop_frozen)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_fill_frozen)  # type: ignore[no-untyped-call]

    def reference_forward(self, state: State, time: Tensor, condition: Condition) -> State:
        """Return the output of the reference.

        Raises:
            GraftError: There is no reference.
        """
        if self.reference is not None:
            output: State = self.reference(state, time, condition)
            return output
        if self.reference_file is None:
            raise GraftError("there is no reference: give model.weights")
        with self.without_adapters():
            output = self.backbone(state, time, condition)
        return output

    @contextmanager
    def without_adapters(self) -> Iterator[None]:
        """Switch the adapters off within the block, if the reference is the backbone without them.

        Blocks may be nested: the outermost one switches.
        """
        if self.reference is not None or self.reference_file is None or self._adapters_off:
            yield
            return
        with adapter_disabled(self.backbone):
            self._adapters_off = True
            try:
                yield
            finally:
                self._adapters_off = False

    @contextmanager
    def eval_weights(self, weights: Weights = "tuned") -> Iterator[None]:
        """Put the network into evaluation mode with the weights that sample, within the block.

        The weights are those in ``behaviour`` for ``current`` if there are any, else the averaged ones if there is an
        average.
        """
        behaviour = weights == "current" and self.behaviour is not None
        with eval_mode(self.backbone), torch.no_grad():
            with self.behaviour_weights() if behaviour else self.ema_weights():
                yield

    def ema_weights(self) -> AbstractContextManager[None]:
        """Return a context in which the network has the averaged weights, if there is an average."""
        return nullcontext() if self.ema is None else self.ema.average_parameters(self.backbone)

    def behaviour_weights(self) -> AbstractContextManager[None]:
        """Return a context in which the network has the weights that sample rounds."""
        return self.ema_weights() if self.behaviour is None else self.behaviour.average_parameters(self.backbone)

    def update_ema(self) -> None:
        """Move the average towards the trained weights by one step, if there is an average."""
        if self.ema is not None:
            self.ema.update(self.backbone)

    def restart_ema(self) -> None:
        """Start the average from the trained weights as they are now, if there is an average."""
        if self.ema is not None:
            self.ema = EMA(self.backbone, self.ema.decay)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the trained parameters by name; all parameters without a reference."""
        if self._trains_all:
            return dict(self.backbone.named_parameters())
        return trainable_parameters(self.backbone)

    def trained_buffers(self) -> dict[str, Tensor]:
        """Return the buffers that are not the reference's, by name. With adapters all are the reference's."""
        adapter = self.reference_file is not None and self.reference is None
        return {} if adapter else persistent_buffers(self.backbone)

    def frozen_state(self) -> dict[str, Tensor]:
        """Return the tensors that checkpoints leave out because they are the reference's, by their names here."""
        if self.reference_file is None:
            return {}
        own = self.trained_parameters()
        rest: dict[str, Tensor] = {}
        rest |= {f"backbone.{name}": p for name, p in self.backbone.named_parameters() if name not in own}
        if not self.trained_buffers():
            rest |= {f"backbone.{name}": buffer for name, buffer in persistent_buffers(self.backbone).items()}
        copy = self.reference.state_dict() if self.reference is not None else {}
        return rest | {f"reference.{name}": tensor for name, tensor in copy.items()}

    def networks(self) -> Sequence[nn.Module]:
        """Return the trained network and, if it is another one, the reference."""
        return [self.backbone] if self.reference is None else [self.backbone, self.reference]


def _drop_frozen(policy: Any, state_dict: dict[str, Any], prefix: str, _: Any) -> None:
    """Keep the reference's tensors out of a state dict."""
    for name in policy.frozen_state():
        state_dict.pop(prefix + name, None)


def _fill_frozen(policy: Any, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Put the reference's tensors back before a state dict is loaded."""
    for name, tensor in policy.frozen_state().items():
        state_dict[prefix + name] = tensor.detach()
