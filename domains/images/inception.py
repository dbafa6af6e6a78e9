"""Features of Inception v3, the network of published FIDs.

They need torch-fidelity and its weights.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from domains.images.features import Features
from domains.images.pretrained import first_line
from graft.errors import GraftError
from graft.io.paths import find_file


class Inception(Features):
    """Features of the Inception network of Heusel et al. 2017, by torch-fidelity.

    torch-fidelity downloads the weights (Apache-2.0, 91 MB) at first use, unless a file is given. FIDs with them need
    thousands of pictures: the covariance of 2,048 features is singular for fewer pictures.

    Args:
        size: Number of features: those after the first, the second or the third pooling, or the last ones.
        weights: torch-fidelity's file ``pt_inception-2015-12-05-6726825d.pth``, for machines without a network.
        batch_size: Pictures at a time.
        device: Device of the network.
    """

    def __init__(
        self,
        size: Literal[64, 192, 768, 2048] = 2048,
        weights: "str | None" = None,
        batch_size: int = 64,
        device: str = "cpu",
    ) -> None:
        super().__init__(batch_size)
        self.size, self.weights = size, weights
        self._device = device
        path = None if weights is None else str(find_file(weights))
        try:
            from torchmetrics.image.fid import NoTrainInceptionV3

            network: Any = NoTrainInceptionV3("inception-v3-compat", [str(size)], path)
        except ModuleNotFoundError:
            raise GraftError("Inception is torch-fidelity's: pip install 'graft-diffusion[inception]'") from None
        except Exception as error:  # errors of the network, the disk and the file
            why = first_line(error)
            raise GraftError(f"Inception's weights cannot be read ({why}): give their file as weights") from None
        self._network = network.to(device).eval()

    @override
    def of(self, pixels: Tensor) -> Tensor:
        """Return (n, size) features; grey pictures are repeated to three channels."""
        values = ((pixels + 1) * 127.5).round().to(torch.uint8)
        if values.shape[1] == 1:
            values = values.expand(-1, 3, -1, -1)
        found: Tensor = self._network(values.to(self._device))
        return found
