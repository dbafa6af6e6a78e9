"""diffusers' UNet2DModel as a backbone."""

from typing import Any

from torch import Tensor
from typing_extensions import override

from graft.core.state import Condition
from graft.errors import GraftError

try:
    from diffusers import UNet2DModel
except ImportError:
    raise GraftError("this network is diffusers': pip install 'graft-diffusion[images]'") from None


class UNet(UNet2DModel):  # type: ignore[misc]
    """`diffusers.UNet2DModel` with graft's call.

    It is called with ``(state (B, C, H, W), time (B,), condition)``.

    Its parameters keep diffusers' names, so that ``model.weights`` may be the ``diffusion_pytorch_model.safetensors``
    of any UNet2DModel of the same settings.

    Args:
        time_scale: Factor from the process's network time to the network's: 1 for `graft.process.BetaSchedule`, which
            uses diffusers' index; 1000 for schedules with t in [0, 1], since the embedding is made for 0 to 1000.
        **kwargs: Arguments of `diffusers.UNet2DModel`; ``num_class_embeds`` for class conditions.
    """

    thread_safe = True  # `graft.network.row_threads` may call it in several threads

    def __init__(self, time_scale: float = 1.0, **kwargs: Any) -> None:
        kwargs = {name: tuple(v) if isinstance(v, list) else v for name, v in kwargs.items()}
        super().__init__(**kwargs)
        self.time_scale = time_scale

    @override
    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """Return the output for noisy pixels or latents; the condition may have a ``label`` (B,)."""
        label = condition.get("label") if self.class_embedding is not None else None
        output: Tensor = super().forward(state, self.time_scale * time, label, return_dict=False)[0]
        return output
