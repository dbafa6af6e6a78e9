"""Score a chunk of objects in another process, for `graft.reward.DistributedReward`.

The answer is a text of numbers and strings, so that the process that reads it trusts no pickle of this one.
"""

import json
import math
import os
import pickle
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

from graft.errors import GraftError
from graft.reward.base import Reward
from graft.reward.calls import score_objects
from graft.reward.isolation import shared
from graft.reward.scores import Scores, bounded, format_error


def score_chunk(reward: bytes, items: Sequence[bytes], folder: str, timeout: "float | None", number: str) -> str:
    """Return the scores of a chunk as JSON.

    A thread scores the chunk if there is a time limit. It continues in the background after the limit, since Python
    cannot end a thread.

    Args:
        reward: Pickle of the reward, which is set up for the chunk and closed after it.
        items: Pickle of each object.
        folder: Folder from which modules may be imported, if it exists here.
        timeout: Time limit in seconds, from now.
        number: Name of this call, so that no two calls have equal arguments.
    """
    if os.path.isdir(folder) and folder not in sys.path:
        sys.path.append(folder)
    if timeout is None:
        return _answer(reward, items)
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(_answer(reward, items)), daemon=True)
    thread.start()
    thread.join(timeout)
    return answers[0] if answers else json.dumps({"late": True})


def _answer(data: bytes, items: Sequence[bytes]) -> str:
    try:
        reward: Reward = pickle.loads(data)
    except (Exception, SystemExit) as error:  # the reward's module fails when it is imported, or is not there
        return json.dumps({"refused": f"the reward cannot be imported by a worker: {format_error(error)}"})
    try:
        with shared():
            reward.setup()
            try:
                return json.dumps(_plain(_scored(reward, items)))
            finally:
                reward.teardown()
    except GraftError as error:
        return json.dumps({"refused": bounded(str(error))})
    except (Exception, SystemExit) as error:
        return json.dumps({"error": format_error(error)})


def _scored(reward: Reward, items: Sequence[bytes]) -> Scores:
    """Return the scores; an object that cannot be imported here fails without a call of the reward."""
    scores = Scores([math.nan] * len(items), cached=set(range(len(items))))
    found: dict[int, Any] = {}
    for i, data in enumerate(items):
        try:
            found[i] = pickle.loads(data)
        except (Exception, SystemExit) as error:
            scores.failures[i] = f"the object cannot be imported by a worker: {format_error(error)}"
    rows = list(found)
    answers = score_objects(reward, list(found.values()))
    for j, i in enumerate(rows):
        scores.values[i] = answers.values[j]
        if j not in answers.cached:
            scores.cached.discard(i)
        if j in answers.failures:
            scores.failures[i] = answers.failures[j]
    scores.calls = answers.calls
    return scores


def _plain(scores: Scores) -> dict[str, Any]:
    return {
        "values": [None if math.isnan(value) else value for value in scores.values],
        "failures": {str(i): bounded(why) for i, why in scores.failures.items()},
        "cached": sorted(scores.cached),
        "calls": scores.calls or {},
    }


class ChunkFailed(Exception):
    """A chunk without scores.

    Args:
        why: The reason.
        broken: True if the executor is broken as a whole.
    """

    def __init__(self, why: str, broken: bool = False) -> None:
        super().__init__(why)
        self.broken = broken


def read_answer(text: Any, count: int) -> Scores:
    """Return the scores of a chunk from the answer of a worker.

    Args:
        text: The answer.
        count: Number of objects of the chunk.

    Raises:
        GraftError: The worker cannot score with this reward at all.
        Unanswered: The chunk took too long or failed as a whole, or the text is no answer for so many objects.
    """
    if not isinstance(text, str):
        raise ChunkFailed(f"a worker answered with {type(text).__name__}, which is no text")
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise ChunkFailed("a worker's answer is no JSON object")
    if answer.get("late") is True:
        raise ChunkFailed("no answer within the time limit of the chunk")
    if isinstance(answer.get("refused"), str):
        raise GraftError(bounded(answer["refused"]))
    if isinstance(answer.get("error"), str):
        raise ChunkFailed(bounded(answer["error"]))
    values, failures, cached, calls = (answer.get(name) for name in ("values", "failures", "cached", "calls"))
    if not (
        isinstance(values, list)
        and len(values) == count
        and all(value is None or type(value) in (int, float) for value in values)
        and isinstance(failures, dict)
        and all(_is_position(i, count) and isinstance(why, str) for i, why in failures.items())
        and isinstance(cached, list)
        and all(type(i) is int and 0 <= i < count for i in cached)
        and isinstance(calls, dict)
        and all(type(number) is int and 0 <= number <= MOST_CALLS * count for number in calls.values())
    ):
        raise ChunkFailed(f"a worker's answer does not hold the scores of {count} objects")
    reasons = {int(i): bounded(why) for i, why in failures.items()}
    if any(value is None and i not in reasons for i, value in enumerate(values)):
        raise ChunkFailed("a worker's answer has an object with neither a score nor a failure")
    kept = [
        math.nan if i in reasons else value for i, value in enumerate(values)
    ]  # `score_objects` checks that they are finite
    return Scores(kept, reasons, set(cached), {bounded(name, 200): number for name, number in calls.items()})


MOST_CALLS = 1_000
"""Largest number of calls of a reward for one object that an answer may state."""


def _is_position(text: str, count: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10 and int(text) < count


def ignore_interrupts() -> None:
    """Ignore Ctrl-C in a worker: the run decides when its workers end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
