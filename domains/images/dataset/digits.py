"""The 1,797 handwritten digits of 8 x 8 pixels in scikit-learn's package (UCI, CC BY 4.0)."""

import numpy as np

from domains.images.dataset.pictures import Pictures
from graft.errors import GraftError


def read_digits() -> Pictures:
    """Return all digits, with 17 grey levels and their labels.

    Raises:
        GraftError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise GraftError("the digits are scikit-learn's: pip install 'graft-diffusion[images]'") from None
    found = load_digits()
    pixels = (found.images * (255 / 16)).round().astype(np.uint8)[..., None]
    return Pictures(pixels, found.target.astype(np.int64), 17, names=[str(i) for i in range(10)])
