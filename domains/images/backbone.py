"""diffusers' UNet2DModel as a backbone."""

from typing import Any

from torch import Tensor

from graft.errors import GraftError
from graft.state import Condition

try:
    from diffusers import UNet2DModel
except ImportError:
    raise GraftError("this network is diffusers': pip install 'graft-diffusion[images]'") from None


class UNet(UNet2DModel):  # type: ignore[misc]
    """`diffusers.UNet2DModel` as graft calls networks: ``(state (B, C, H, W), time (B,), condition)``.

    Its parameters keep diffusers' names, so that ``model.weights`` may be the ``diffusion_pytorch_model.safetensors``
    of any UNet2DModel of the same settings.

    Args:
        time_scale: The time that the network is told is this times the process's: 1 for `graft.process.BetaSchedule`,
            which tells diffusers' index; 1000 for schedules that tell t in [0, 1], whose embedding is made for 0 to
            1000.
        **kwargs: Of `diffusers.UNet2DModel`, under its names; ``num_class_embeds`` for class conditions.
    """

    def __init__(self, time_scale: float = 1.0, **kwargs: Any) -> None:
        kwargs = {name: tuple(v) if isinstance(v, list) else v for name, v in kwargs.items()}
        super().__init__(**kwargs)
        self.time_scale = time_scale

    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """The output for noisy pixels or latents at the process's time; the condition may have a ``label`` (B,)."""
        label = condition.get("label") if self.class_embedding is not None else None
        output: Tensor = super().forward(state, self.time_scale * time, label, return_dict=False)[0]
        return output
