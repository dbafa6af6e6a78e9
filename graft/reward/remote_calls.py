"""Base of rewards that a server computes: requests side by side, and a failure for each object without a score."""

import math
import threading
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from typing_extensions import override

from graft.core import limits
from graft.errors import GraftError
from graft.reward.file_reward import FileReward, ObjectFile
from graft.reward.http_client import JSONClient, NoAnswer, Refused
from graft.reward.json_answers import UnusableAnswer
from graft.reward.scores import Scores

MOST_UNANSWERED = 3
"""Number of requests in a row without an answer after which the other objects of a call fail."""


class RemoteReward(FileReward):
    """A reward by requests to a server.

    Args:
        url: Address of the server.
        key_variable: Name of the environment variable with the server's key; None for no key.
        concurrency: Number of requests at a time.
        timeout: Time limit of a try in seconds.
        retries: Number of times that a request is sent again.
        batch_size: Number of objects in a request.
    """

    def __init__(
        self, url: str, key_variable: "str | None", concurrency: int, timeout: float, retries: int, batch_size: int = 1
    ) -> None:
        limits.check("data.reward.concurrency", concurrency, 1, 1000)
        self.concurrency, self.batch_size = concurrency, batch_size
        self.client = JSONClient(url, key_variable, timeout, retries)

    @abstractmethod
    def request(self, files: Sequence[ObjectFile]) -> Any:
        """Return the content of a request for some objects."""

    @abstractmethod
    def read(self, answer: Any, count: int) -> "list[float | str]":
        """Return the score or the reason of the failure of each object.

        Raises:
            UnusableAnswer: The answer is not about so many objects.
        """

    def files_of(self, item: Any) -> ObjectFile:
        """Return what is sent of an object; raise GraftError if it cannot be written."""
        return self.file_of(item)

    @override
    def setup(self) -> None:
        """Check that there is a key and a domain.

        Raises:
            GraftError: One of them is missing.
        """
        self.client.check()
        _ = self.domain

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        self.setup()
        scores = Scores([math.nan] * len(items))
        files: dict[int, ObjectFile] = {}
        for i, item in enumerate(items):
            try:
                files[i] = self.files_of(item)
            except GraftError as error:
                scores.failures[i] = str(error)
                scores.cached.add(i)  # the server is not called for it
        rows, silence = list(files), _Silence()
        batches = [rows[start : start + self.batch_size] for start in range(0, len(rows), self.batch_size)]

        def one(batch: list[int]) -> "list[float | str]":
            return self._scores([files[i] for i in batch], silence)

        with ThreadPoolExecutor(self.concurrency) as pool:
            for batch, found in zip(batches, pool.map(one, batches), strict=True):
                for i, value in zip(batch, found, strict=True):
                    if isinstance(value, str):
                        scores.failures[i] = value
                    else:
                        scores.values[i] = value
        return scores

    def _scores(
        self, files: Sequence[ObjectFile], silence: "_Silence", retries: "int | None" = None
    ) -> "list[float | str]":
        """Return the score or the reason of the failure of each object of a request."""
        if silence.why is not None:
            return [silence.why] * len(files)
        try:
            answer = self.client.post(self.request(files), retries)
            silence.end()
            return self.read(answer, len(files))
        except NoAnswer as error:
            silence.add(str(error))
            return [str(error)] * len(files)
        except (Refused, UnusableAnswer) as error:
            silence.end()
            if len(files) == 1:
                return [str(error)]
            return [self._scores([file], silence, 0)[0] for file in files]


class _Silence:
    """Counts requests in a row without an answer.

    Attributes:
        why: Reason of the last one, once there are too many; None before.
    """

    def __init__(self) -> None:
        self.count, self._lock = 0, threading.Lock()
        self.why: str | None = None

    def add(self, why: str) -> None:
        with self._lock:
            self.count += 1
            if self.count >= MOST_UNANSWERED:
                self.why = f"not sent, because {self.count} requests in a row were not answered ({why})"

    def end(self) -> None:
        with self._lock:
            self.count, self.why = 0, None
