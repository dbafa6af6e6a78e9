"""Rewards: scores of decoded objects, one number each; any Python callable is one."""

from graft.reward.base import BatchReward, Reward, ScoredForm, score_each
from graft.reward.cached import CachedReward
from graft.reward.calls import bind, by_term, leaves, score_batches, score_objects
from graft.reward.distributed import DistributedReward
from graft.reward.function import FunctionReward, RewardAttribute, Scorer, import_callable, scorer
from graft.reward.http_reward import HTTPReward
from graft.reward.model_judge import ModelJudge
from graft.reward.program import ProgramReward
from graft.reward.rated import Rated
from graft.reward.scored_form import PartForms, scored_forms
from graft.reward.scores import Scores, bounded, concatenate_scores, format_error, oriented, to_finite_float
from graft.reward.weighted import CompositeReward, WeightedSum
from graft.reward.wrapped import WrappedReward

__all__ = [
    "BatchReward",
    "CachedReward",
    "CompositeReward",
    "DistributedReward",
    "FunctionReward",
    "HTTPReward",
    "ModelJudge",
    "PartForms",
    "ProgramReward",
    "Rated",
    "Reward",
    "RewardAttribute",
    "ScoredForm",
    "Scorer",
    "Scores",
    "WeightedSum",
    "WrappedReward",
    "bind",
    "bounded",
    "by_term",
    "concatenate_scores",
    "format_error",
    "import_callable",
    "leaves",
    "oriented",
    "score_batches",
    "score_each",
    "score_objects",
    "scored_forms",
    "scorer",
    "to_finite_float",
]
