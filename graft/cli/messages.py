"""What a command says of an error that the user can put right."""

import re

import torch
from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException

from graft.errors import GraftError
from graft.reward.importing import fault

NOISE = ("Does not validate", "Subtypes:", "Errors:", "Expected NoneType", "Expected a path but", "Given value")


def user_message(error: BaseException) -> "str | None":
    """What the user can put right, in a sentence; None if the error is not of that kind."""
    cause: BaseException | None = error
    known: str | None = None
    while cause is not None:  # the parser wraps what the constructors of its classes raise
        if isinstance(cause, GraftError | MisconfigurationException):
            known = str(cause)
        cause = cause.__cause__
    if known is not None:
        return known
    if isinstance(error, ArgumentError | ImportError | SyntaxError) and (broken := fault(error)) is not None:
        return broken
    if isinstance(error, torch.OutOfMemoryError):  # sampling makes do with less
        return (
            f"out of memory ({str(error).splitlines()[0]}): lower data.train_batch_size, or have it in parts with "
            "trainer.accumulate_grad_batches, which changes nothing else"
        )
    if lost_process(error):
        return (
            "another process of this run ended, so this one cannot go on: its own message says why; go on with "
            "--ckpt_path last"
        )
    if isinstance(error, OSError) and error.errno is not None:  # no space, no permission
        return str(error)
    return shorten_parser_error(str(error)) if isinstance(error, ArgumentError) else None


LOST = ("closed by peer", "reset by peer", "Broken pipe", "Timed out waiting", "Connection refused")
"""What gloo says where a process that it waits for is gone; it has no class of its own for it."""


def lost_process(error: BaseException) -> bool:
    """Return whether another of several processes is gone, which torch notices when it waits for it."""
    if isinstance(error, torch.distributed.DistBackendError | torch.distributed.DistNetworkError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in LOST)


def shorten_parser_error(message: str) -> str:
    """The part of a parser's message that says what is wrong."""
    keys, owner, told = list[str](), "", list[str]()
    message = re.sub(r"a typing\.Literal\[(.+?)\]", r"\1", re.sub(r"(?:a )?<class '(.+?)'>", r"\1", message))
    for line in message.splitlines():
        line = line.strip(" -")
        if match := re.match(r'Parser key "(.+?)":\s*(.*)', line):
            keys.append(match[1])
            line = match[2]
        elif match := re.match(r"Problem with given class_path '(.+)':", line):
            owner, line = f" by {match[1]}", ""
        if line and not line.startswith(NOISE):
            told.append(line + (owner if line.endswith("is not accepted") else ""))
    if told and told[0].startswith("Expected ") and (given := re.search(r"Given value: (.*)", message)):
        # of a setting that takes one kind or another, each on a line of its own
        kinds = [line.removeprefix("Expected ") for line in told if line.startswith("Expected ")]
        told[0] = f"Expected {' or '.join(kinds)}. Got value: {given[1]}"
    elif told:  # the first kind's own complaint; the others say only that it is not theirs
        told = [told[0], *(line for line in told[1:] if not line.startswith("Expected "))]
    return f"{'.'.join(keys)}: {told[0]}" if keys and told else " ".join(told)
