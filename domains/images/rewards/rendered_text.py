"""Text in a picture, read by optical character recognition and compared with the text that the prompt asks for."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image
from typing_extensions import override

from domains.images.rewards.base import PictureReward
from graft.core import limits
from graft.errors import GraftError

QUOTED = re.compile(
    r"\"([^\"]+)\"|“([^”]+)”|„([^“”]+)[“”]|”([^”]+)”|«([^»]+)»|»([^«]+)«|「([^」]+)」|『([^』]+)』"
    r"|(?<!\w)'((?:[^']|(?<=\w)'(?=\w))+)'(?!\w)|(?<!\w)‘((?:[^’]|(?<=\w)’(?=\w))+)’(?!\w)"
)
"""A text in quotation marks of several languages; an apostrophe within a word is none."""


class RenderedText(PictureReward):
    """Agreement of the text in a picture with the text in its prompt's quotation marks, 0 to 1.

    It is 1 − edit distance / length of the longer text. The texts of several quotation marks are joined by spaces, and
    the lines of the picture are read from top to bottom. A picture without any text has 0; a prompt without quotation
    marks fails.

    Model: PP-OCR of PaddleOCR as the package `rapidocr` holds it, Apache-2.0 licence: 30 MB, no download, on the CPU.

    Args:
        text: Text that every picture must show; ``null`` for the text in the prompt's quotation marks.
        match_case: Tell capital letters from small ones.
        min_score: Smallest confidence of a line; lines below it are ignored.
        num_threads: Number of threads of the networks.
    """

    name = "rendered text"

    def __init__(
        self,
        text: "str | None" = None,
        match_case: bool = False,
        min_score: float = 0.5,
        num_threads: int = 1,
    ) -> None:
        limits.check("data.reward.min_score", min_score, 0, 1)
        limits.check("data.reward.num_threads", num_threads, 1)
        if text is not None and not normalised(text, match_case):
            raise GraftError(
                "data.reward.text is empty; it must be the text that pictures show. Fill it or leave it out"
            )
        self.text, self.match_case = text, match_case
        self.min_score, self.num_threads = min_score, num_threads
        self._reader: Any = None

    @property
    @override
    def worst_value(self) -> float:
        return 0.0

    @override
    def setup(self) -> None:
        """Load the networks.

        Raises:
            GraftError: The package is missing.
        """
        if self._reader is not None:
            return
        try:
            from rapidocr import RapidOCR
        except ImportError as error:
            raise GraftError(
                f"the reward {self.name} needs {error.name or 'rapidocr'}: pip install 'graft-diffusion[ocr]'"
            ) from None
        threads = "EngineConfig.onnxruntime.intra_op_num_threads"
        quiet = {"Global.log_level": "critical", "Global.text_score": self.min_score}
        self._reader = RapidOCR(params={**quiet, threads: self.num_threads})

    @override
    def value(self, image: Image.Image) -> float:
        """Return the agreement.

        Raises:
            ValueError: The prompt has no text in quotation marks.
        """
        wanted = normalised(self._wanted(image), self.match_case)
        return similarity(wanted, normalised(" ".join(self.read(image)), self.match_case))

    def read(self, image: Image.Image) -> list[str]:
        """Return the lines of text in a picture, from top to bottom and left to right."""
        self.setup()
        pixels = np.asarray(image.convert("RGB"))[..., ::-1]  # rapidocr reads blue, green, red
        found = self._reader(np.ascontiguousarray(pixels))
        if found.txts is None:
            return []
        lines = [(np.asarray(box, float), text) for box, text in zip(found.boxes, found.txts, strict=True)]
        return [text for _, text in in_reading_order(lines)]

    def _wanted(self, image: Image.Image) -> str:
        if self.text is not None:
            return self.text
        prompt = str(image.info.get("prompt") or "")
        parts = [next(filter(None, groups)) for groups in QUOTED.findall(prompt)]
        if not normalised(" ".join(parts), self.match_case):
            raise ValueError(f"the prompt has no text in quotation marks: {prompt[:100]!r}")
        return " ".join(parts)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the networks, which do not pickle; a copy loads its own."""
        return self.__dict__ | {"_reader": None}


def in_reading_order(lines: "Sequence[tuple[Any, str]]") -> "list[tuple[Any, str]]":
    """Return lines by row and then from left to right; lines of a row overlap by half of their height.

    Args:
        lines: (4, 2) corners and text of each line.
    """
    rows: list[list[tuple[Any, str]]] = []
    for line in sorted(lines, key=lambda each: float(each[0][:, 1].mean())):
        middle, height = line[0][:, 1].mean(), np.ptp(line[0][:, 1])
        if rows and abs(middle - rows[-1][0][0][:, 1].mean()) < max(height, np.ptp(rows[-1][0][0][:, 1])) / 2:
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda each: float(each[0][:, 0].min()))]


def normalised(text: str, match_case: bool = False) -> str:
    """Return a text with one form of each character and single spaces; in small letters if case does not count."""
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    return text if match_case else text.casefold()


def similarity(a: str, b: str) -> float:
    """Return 1 − Levenshtein distance / length of the longer text; 1 for two empty texts."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    longest = max(len(a), len(b))
    return 1 - row[-1] / longest if longest else 1.0
