"""One-sentence messages of errors that the user can correct."""

import torch
from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException

from graft.errors import GraftError
from graft.pretrained.parsing import shorten_parser_error
from graft.reward.importing import fault


def user_message(error: BaseException) -> "str | None":
    """Return an error of the user as one sentence; None for any other error."""
    cause: BaseException | None = error
    known: str | None = None
    while cause is not None:  # the parser wraps errors of the constructors of its classes
        if isinstance(cause, GraftError | MisconfigurationException):
            known = str(cause)
        cause = cause.__cause__
    if known is not None:
        return known
    if isinstance(error, ArgumentError | ImportError | SyntaxError) and (broken := fault(error)) is not None:
        return broken
    if isinstance(error, torch.OutOfMemoryError):  # sampling halves its batches by itself
        return (
            f"out of memory ({str(error).splitlines()[0]}): lower data.train_batch_size, or split its batches with "
            "trainer.accumulate_grad_batches, which gives the same result"
        )
    if lost_process(error):
        return (
            "another process of this run ended, so this one cannot continue: the message of that process has the "
            "reason; resume with --ckpt_path last"
        )
    if isinstance(error, OSError) and error.errno is not None:  # no space, no permission
        return str(error)
    return shorten_parser_error(str(error)) if isinstance(error, ArgumentError) else None


LOST = ("closed by peer", "reset by peer", "Broken pipe", "Timed out waiting", "Connection refused")
"""Texts of gloo's errors about a lost process, for which gloo has no class."""


def lost_process(error: BaseException) -> bool:
    """Return whether an error of torch means that another process of the job has ended."""
    if isinstance(error, torch.distributed.DistBackendError | torch.distributed.DistNetworkError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in LOST)
