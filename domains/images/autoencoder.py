"""The autoencoder of latent models: diffusers' AutoencoderKL, which is never trained."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from domains.images import pretrained
from graft.core.finite import require_finite_network
from graft.core.recorded_arguments import Described
from graft.errors import GraftError


class Autoencoder(Described):
    """diffusers' AutoencoderKL from a folder.

    The model's weights and checkpoints do not hold it.

    Args:
        folder: Folder that ``AutoencoderKL.save_pretrained`` wrote, or the ``vae`` folder of a pipeline.
        batch_size: Pictures that are encoded or decoded at a time.
        scaling: Factor that gives latents a standard deviation of about 1; ``scaling_factor`` (and ``shift_factor``) of
            the autoencoder if not given.
    """

    def __init__(self, folder: str, batch_size: int = 16, scaling: "float | None" = None) -> None:
        self.folder, self.batch_size = folder, batch_size
        try:
            from diffusers import AutoencoderKL
        except ImportError:
            raise GraftError("autoencoders are diffusers': pip install 'graft-diffusion[images]'") from None
        if not (Path(folder) / "config.json").is_file():
            raise GraftError(f"{folder!r} holds no autoencoder: give a folder with its config.json and weights")
        try:
            network: Any = pretrained.load_pretrained(AutoencoderKL, folder, f"the autoencoder in {folder!r}")
        except (OSError, ValueError) as error:
            raise GraftError(f"the autoencoder in {folder!r} cannot be read ({pretrained.first_line(error)})") from None
        require_finite_network(network, folder, "give another folder")
        self._network = network.requires_grad_(False).eval()
        self.scaling = scaling if scaling is not None else float(network.config.scaling_factor)
        self.shift = float(network.config.shift_factor or 0.0)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Return (B, c, h, w) latents of (B, C, H, W) pixels in [-1, 1].

        They are the means of the posterior, shifted and scaled.
        """
        network = self._network.to(pixels.device)
        parts = [network.encode(part).latent_dist.mode() for part in torch.split(pixels, self.batch_size)]
        return (torch.cat(parts) - self.shift) * self.scaling

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Return (B, C, H, W) pixels of latents."""
        network = self._network.to(latents.device)
        parts = [
            network.decode(part / self.scaling + self.shift).sample for part in torch.split(latents, self.batch_size)
        ]
        return torch.cat(parts)
