"""diffusers' UNet2DModel as a backbone, on pixels or on patches of pixels."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle
from typing_extensions import override

from graft.core import limits
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


class PatchUNet(nn.Module):
    """A `UNet` whose pixels are patches of the picture: the values of a patch are its channels.

    With patches of 2 x 2 a call costs about a quarter of that of a `UNet` of the same channels.

    Args:
        patch_size: Side of a patch in pixels.
        sample_size: Side of the picture in pixels, a multiple of ``patch_size``.
        in_channels: Channels of the picture.
        **kwargs: Further arguments of `UNet`.

    Raises:
        GraftError: ``patch_size`` does not divide ``sample_size``.
    """

    thread_safe = True  # as `UNet`

    def __init__(self, patch_size: int = 2, sample_size: int = 32, in_channels: int = 1, **kwargs: Any) -> None:
        super().__init__()
        limits.check("patch_size", patch_size, 1)
        if sample_size % patch_size:
            raise GraftError(f"patch_size is {patch_size}; it must divide sample_size, which is {sample_size}")
        self.patch_size = patch_size
        self.config = {"sample_size": sample_size, "in_channels": in_channels}  # read by `Images.default_process`
        channels = in_channels * patch_size**2
        self.unet = UNet(sample_size=sample_size // patch_size, in_channels=channels, out_channels=channels, **kwargs)

    @override
    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """Return the output (B, C, H, W) for noisy pixels of that shape; the condition may have a ``label`` (B,)."""
        return pixel_shuffle(self.unet(pixel_unshuffle(state, self.patch_size), time, condition), self.patch_size)
