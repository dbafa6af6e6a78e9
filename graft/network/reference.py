"""The frozen reference: a copy of the network, or the network without its LoRA adapter."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from graft.errors import GraftError


@dataclass
class LoRA:
    """Train low-rank adapters (Hu et al. 2022) through peft instead of the whole network.

    Args:
        rank: Rank of the update.
        alpha: Scale of the update, which is multiplied by alpha / rank.
        target_modules: Names of the layers with an adapter, or ``all-linear``.
        dropout: Probability of dropping an adapter's input.
    """

    rank: int = 8
    alpha: float = 16.0
    target_modules: "list[str] | str" = "all-linear"
    dropout: float = 0.0


def add_lora(backbone: nn.Module, lora: LoRA) -> nn.Module:
    """Return ``backbone`` with adapters, the only parameters that are trained.

    Raises:
        GraftError: peft is not installed, or no layer has one of the names.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise GraftError("model.lora needs peft: pip install 'graft-diffusion[lora]'") from None
    names: list[str] | str = lora.target_modules
    if names == "all-linear":
        names = [name for name, module in backbone.named_modules() if isinstance(module, nn.Linear)]
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=names, lora_dropout=lora.dropout)
    try:
        adapted: nn.Module = get_peft_model(backbone, config)
    except ValueError as error:
        raise GraftError(f"model.lora does not fit {type(backbone).__name__}: {error}") from None
    return adapted


def frozen_copy(backbone: nn.Module) -> nn.Module:
    """Return a copy that is never trained and always in evaluation mode."""
    return copy.deepcopy(backbone).requires_grad_(False).eval()


@contextmanager
def adapter_disabled(backbone: nn.Module) -> Iterator[None]:
    """Switch the adapters of `add_lora` off within the block.

    peft's own ``disable_adapter`` also collects the status of every layer, which takes long in a large network.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in backbone.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Keep ``module`` in evaluation mode within the block."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
