"""A vision model as the judge: it sees an object and a rubric, and answers with a number."""

import base64
import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from typing_extensions import override

from graft.core import limits
from graft.errors import GraftError
from graft.io.json_files import parse_json
from graft.reward.file_reward import ObjectFile
from graft.reward.json_answers import UnusableAnswer
from graft.reward.remote_calls import RemoteReward
from graft.reward.scores import to_finite_float

FORM = 'Answer with one JSON object and nothing else: {"score": N}, with a number N from %g (worst) to %g (best).'


class ModelJudge(RemoteReward):
    """A score by a model behind an OpenAI-compatible address, such as vLLM, llama.cpp, Ollama or a paid service.

    Each object is one request to ``<url>/chat/completions`` with the rubric and the object. A picture is sent as it is;
    objects of other domains are sent as the picture that the domain renders, as the text of their file, or both. The
    answer must have ``{"score": N}`` with a number from ``low`` to ``high``; an object without one fails. Requests are
    sent again, and objects fail, as with `graft.reward.HTTPReward`.

    Args:
        model: Name of the model at the server.
        rubric: Instruction to the judge; ``{caption}`` stands for the condition of the object, such as its prompt.
        url: Address of the server, up to and without ``/chat/completions``.
        key_variable: Name of the environment variable with the server's key, sent as a bearer token; ``null`` for none.
            The key itself is written nowhere.
        show: The form of the object: ``picture``, ``text`` or ``both``.
        low: Smallest score.
        high: Largest score.
        options: Further settings of the request, such as ``max_tokens``. The temperature is 0 if they do not say.
        concurrency: Number of requests at a time.
        timeout: Time limit of a try in seconds.
        retries: Number of times that a request is sent again.
        name: Name in tables; the model's name if not given.
    """

    def __init__(
        self,
        model: str,
        rubric: str,
        url: str = "http://localhost:8000/v1",
        key_variable: "str | None" = None,
        show: Literal["picture", "text", "both"] = "picture",
        low: float = 0.0,
        high: float = 10.0,
        options: "dict[str, Any] | None" = None,
        concurrency: int = 4,
        timeout: float = 120.0,
        retries: int = 3,
        name: "str | None" = None,
    ) -> None:
        super().__init__(url.rstrip("/") + "/chat/completions", key_variable, concurrency, timeout, retries)
        limits.check("data.reward.high", high, low, above=True)
        if show not in ("picture", "text", "both"):
            raise GraftError(f"data.reward.show is {show!r}; it must be picture, text or both")
        if not rubric.strip():
            raise GraftError("data.reward.rubric is empty; it must say what the judge rates. Write it")
        self.model, self.rubric, self.show, self.low, self.high = model, rubric, show, low, high
        self.options, self.name = dict(options or {}), name or f"rating by {model}"

    @property
    @override
    def worst_value(self) -> float:
        return self.low

    @override
    def identity(self) -> Any:
        """Return the address, the model and the settings of its request, which decide its scores."""
        names = ("model", "rubric", "show", "low", "high", "options")
        return {"class": "ModelJudge", "url": self.client.url, **{name: vars(self)[name] for name in names}}

    @override
    def files_of(self, item: Any) -> ObjectFile:
        """Return the object as the request's parts, in JSON."""
        file, parts = self.file_of(item), list[dict[str, Any]]()
        text = self.rubric.replace("{caption}", file.caption) + "\n\n" + FORM % (self.low, self.high)
        if self.show != "picture":
            try:
                text += f"\n\nThe object, in the format {file.suffix.removeprefix('.')}:\n{file.content.decode()}"
            except UnicodeDecodeError:
                raise GraftError(f"{file.suffix} is no text: set data.reward.show to picture") from None
        parts.append({"type": "text", "text": text})
        if self.show != "text":
            png = file.content if file.suffix == ".png" else self.domain.render([item])
            if png is None:
                raise GraftError("the domain renders no pictures: set data.reward.show to text")
            address = f"data:image/png;base64,{base64.b64encode(png).decode()}"
            parts.append({"type": "image_url", "image_url": {"url": address}})
        return ObjectFile(".json", json.dumps(parts).encode(), file.caption)

    @override
    def request(self, files: Sequence[ObjectFile]) -> Any:
        message = {"role": "user", "content": json.loads(files[0].content)}
        return {"temperature": 0, **self.options, "model": self.model, "messages": [message]}

    @override
    def read(self, answer: Any, count: int) -> "list[float | str]":
        try:
            content = answer["choices"][0]["message"]["content"]
            if isinstance(content, list):
                content = "".join(part["text"] for part in content if part.get("type") == "text")
            if not isinstance(content, str):
                raise TypeError
        except (KeyError, IndexError, TypeError, AttributeError):
            raise UnusableAnswer("the answer is none of a chat: it has no choices with a message") from None
        return [self._score(content)]

    def _score(self, content: str) -> "float | str":
        found = [value for value in map(_score_in, re.findall(r"\{[^{}]*\}", content)) if value is not None]
        if not found:
            return f"the judge gave no score but {content.strip()[:100]!r}"
        try:
            score = to_finite_float(None if isinstance(found[-1], bool) else found[-1])
        except ValueError as error:
            return str(error)
        if not self.low <= score <= self.high:
            return f"the judge gave {score:g}, which is not from {self.low:g} to {self.high:g}"
        return score


def _score_in(text: str) -> Any:
    try:
        return parse_json(text).get("score")
    except ValueError:
        return None
