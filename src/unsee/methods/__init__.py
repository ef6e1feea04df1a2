"""Methods: ways to forget. One file a method; `REGISTRY` lists them."""

from unsee.methods.base import REGISTRY, Method, get_method, make_method
from unsee.methods.settings import TrainingSettings, describe, read_changes

__all__ = ["REGISTRY", "Method", "TrainingSettings", "describe", "get_method", "make_method", "read_changes"]
