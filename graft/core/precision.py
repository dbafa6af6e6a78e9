"""Numerical precision of float32 operations."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_float32() -> Iterator[None]:
    """Compute float32 convolutions and matrix products in float32.

    NVIDIA GPUs round their inputs to TF32, 10 bits of mantissa, in convolutions by default, and in matrix products if
    the user allows it. The inversion of a flow amplifies that rounding.
    """
    cudnn = torch.backends.cudnn
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with cudnn.flags(
            enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
