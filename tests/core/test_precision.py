"""Operations in float32 whatever the user has allowed, and the user's settings afterwards."""

import subprocess
import sys

import pytest
import torch

SETTINGS = {
    "default": "pass",
    "both allowed": "torch.set_float32_matmul_precision('high')",
    "none allowed": "torch.backends.cudnn.allow_tf32 = False",
    "newer, everything": "torch.backends.fp32_precision = 'tf32'",
    "newer, products": "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "newer, convolutions exact": "torch.backends.cudnn.conv.fp32_precision = 'ieee'",
}
PROGRAM = """
import torch
from graft.core.precision import exact_float32
backends = torch.backends

def rounding():
    if hasattr(backends.cudnn, "conv"):
        parts = (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn)
        return [part.fp32_precision == "tf32" for part in parts]
    return [backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32]

{setting}
before = rounding()
assert any(before) == {rounds}, before
try:
    with exact_float32():
        assert not any(rounding()), rounding()
        raise KeyError
except KeyError:
    pass
assert rounding() == before, (rounding(), before)
"""


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_no_rounding_to_tf32(setting: str) -> None:
    """In a process of its own, because the settings are the process's."""
    if "fp32_precision" in setting and not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("torch has had these settings since 2.9")
    rounds = setting != SETTINGS["none allowed"]
    program = PROGRAM.format(setting=setting, rounds=rounds)
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert not result.returncode, result.stderr
