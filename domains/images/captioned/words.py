"""The tokenizer of captions: CLIP's kind, every word of the captions is one token."""

import re
import string
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from domains.images.captioned.captions import BACKGROUNDS, COLOURS, OBJECTS, TEMPLATES
from graft.io.atomic import write_text
from graft.io.json_files import write_json

LENGTH = 12
"""Length of a prompt in tokens, those of start and end included."""

START, END = "<|startoftext|>", "<|endoftext|>"


def vocabulary() -> "tuple[dict[str, int], list[tuple[str, str]]]":
    """Return the tokens of byte-pair encoding, and its merges in order."""
    plain = re.sub(r"\{\w+\}", " ", " ".join(TEMPLATES))
    words = sorted({*re.findall("[a-z]+", plain), "a", "an", *OBJECTS, *COLOURS, *BACKGROUNDS})
    pieces = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for found in pieces.values() for pair in pairwise(found)):
        merge = min(pairs, key=lambda pair: (-pairs[pair], pair))  # the most frequent, the first in the alphabet
        merges.append(merge)
        pieces = {word: _merged(found, merge) for word, found in pieces.items()}
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge) for merge in merges), START, END]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}, merges


def tokenizer() -> Any:
    """Return a ``CLIPTokenizer`` of transformers."""
    from transformers import CLIPTokenizer

    tokens, merges = vocabulary()
    return CLIPTokenizer(vocab=tokens, merges=merges, model_max_length=LENGTH)


def write_older_files(folder: Path) -> None:
    """Write ``vocab.json`` and ``merges.txt``, which transformers 4 reads."""
    tokens, merges = vocabulary()
    write_json(folder / "vocab.json", tokens)
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *(" ".join(merge) for merge in merges), ""]))


def _merged(pieces: list[str], merge: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for piece in pieces:
        if out and (out[-1], piece) == merge:
            out[-1] += piece
        else:
            out.append(piece)
    return out
