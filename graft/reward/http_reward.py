"""A reward that a server computes: objects go out as files in JSON, and scores come back."""

import base64
from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from graft.core import limits
from graft.reward.file_reward import ObjectFile
from graft.reward.json_answers import read_scores
from graft.reward.remote_calls import RemoteReward


class HTTPReward(RemoteReward):
    """A score by a server that takes and gives JSON, for the objects of any domain.

    The request is ``{"objects": [{"format": "png", "base64": …, "caption": …}, …]}``. The content of a format that is
    text, such as ``sdf``, has the name ``text`` in place of ``base64``. ``caption`` is the condition in words, such as
    the prompt. The answer is ``{"scores": [0.5, null, …], "errors": {"1": "why"}}`` with a number or null for each
    object; ``errors`` may be left out.

    An object without a number fails. A request that is not answered is sent again, with pauses of 1, 2, 4 … s or as
    the server asks; then its objects fail. If the server refuses a request of several objects, each is sent alone.
    After three requests in a row without an answer, the objects that remain of the call fail at once. Redirections are
    not followed, and no proxy is used.

    Args:
        url: Address of the server.
        key_variable: Name of the environment variable with the server's key, sent as a bearer token. The key itself is
            written nowhere.
        batch_size: Number of objects in a request.
        concurrency: Number of requests at a time.
        timeout: Time limit of a try in seconds.
        retries: Number of times that a request is sent again.
        higher_is_better: False if smaller is better.
        name: Name in tables; the server's name if not given.
        unit: Unit of the values.
    """

    def __init__(
        self,
        url: str,
        key_variable: "str | None" = None,
        batch_size: int = 16,
        concurrency: int = 1,
        timeout: float = 60.0,
        retries: int = 3,
        higher_is_better: bool = True,
        name: "str | None" = None,
        unit: str = "",
    ) -> None:
        limits.check("data.reward.batch_size", batch_size, 1)
        super().__init__(url, key_variable, concurrency, timeout, retries, batch_size)
        self.name = name or f"score by {self.client.host}"
        self.higher_is_better, self.unit = higher_is_better, unit

    @override
    def identity(self) -> Any:
        """Return the address and the direction; sizes and limits of requests change no score."""
        return {"class": "HTTPReward", "url": self.client.url, "higher_is_better": self.higher_is_better}

    @override
    def request(self, files: Sequence[ObjectFile]) -> Any:
        return {"objects": [_in_json(file) for file in files]}

    @override
    def read(self, answer: Any, count: int) -> "list[float | str]":
        return read_scores(answer, count)


def _in_json(file: ObjectFile) -> dict[str, str]:
    out = {"format": file.suffix.removeprefix("."), "caption": file.caption}
    try:
        return out | {"text": file.content.decode()}
    except UnicodeDecodeError:
        return out | {"base64": base64.b64encode(file.content).decode()}
