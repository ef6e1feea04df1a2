"""Models: where their parts are, how they are loaded, asked and scored."""

from unsee.models.answering import Question, Reply, answer
from unsee.models.vlm import MINI, VisionLanguageModel, fitting_dtype, load

__all__ = ["MINI", "Question", "Reply", "VisionLanguageModel", "answer", "fitting_dtype", "load"]
