"""Numerical precision of float32 operations."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def exact_float32() -> Iterator[None]:
    """Compute float32 convolutions and matrix products in float32.

    NVIDIA GPUs round their inputs to TF32, 10 bits of mantissa, in convolutions by default, and in matrix products if
    the user allows it. The inversion of a flow amplifies that rounding.
    """
    backends: Any = torch.backends  # its types leave the newer settings out
    cudnn = backends.cudnn
    try:
        allowed, precision = cudnn.allow_tf32, torch.get_float32_matmul_precision()
    except RuntimeError:  # the user has set the newer fp32_precision, and torch then refuses to read these
        parts = (backends.cuda.matmul, cudnn.conv, cudnn.rnn)
        before = [part.fp32_precision for part in parts]
        try:
            for part in parts:
                part.fp32_precision = "ieee"
            yield
        finally:
            for part, value in zip(parts, before, strict=True):
                part.fp32_precision = value
        return
    try:
        cudnn.allow_tf32 = False
        torch.set_float32_matmul_precision("highest")
        yield
    finally:
        cudnn.allow_tf32 = allowed
        torch.set_float32_matmul_precision(precision)
