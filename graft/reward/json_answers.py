"""Scores in a JSON answer of a server or program, checked one by one."""

from typing import Any

from graft.reward.scores import bounded, to_finite_float


class UnusableAnswer(Exception):
    """An answer without a score or a reason for each object."""


def read_scores(answer: Any, count: int) -> "list[float | str]":
    """Return the score of each object, or the reason of its failure.

    The answer is an object with ``scores``, a list of a number or null for each object, and optionally ``errors``, an
    object from positions, counted from 0, to texts.

    Args:
        answer: Parsed JSON.
        count: Number of objects.

    Raises:
        UnusableAnswer: The answer has no such list, or says why there is none.
    """
    if not isinstance(answer, dict):
        raise UnusableAnswer(f"the answer is {_kind(answer)}, not an object with the list scores")
    scores, errors = answer.get("scores"), answer.get("errors") or {}
    if not isinstance(scores, list):
        if isinstance(answer.get("error"), str):
            raise UnusableAnswer(bounded(answer["error"], 300))
        raise UnusableAnswer("the answer has no list named scores")
    if len(scores) != count:
        raise UnusableAnswer(f"the answer has {len(scores)} scores for {count} objects")
    if not isinstance(errors, dict):
        raise UnusableAnswer("the answer's errors are no object from positions to texts")
    found: list[float | str] = []
    for i, score in enumerate(scores):
        why = errors.get(str(i))
        if why is not None or score is None:
            found.append(bounded(str(why)) if why is not None else "the answer has null in place of its score")
            continue
        if isinstance(score, bool | list | dict):
            found.append(f"the score is {_kind(score)}, not a number")
            continue
        try:
            found.append(to_finite_float(score))
        except ValueError as error:
            found.append(str(error))
    return found


def _kind(value: Any) -> str:
    names = {
        list: "a list",
        dict: "an object",
        str: "a text",
        int: "a number",
        float: "a number",
        bool: "a truth value",
    }
    return names.get(type(value), "null")
