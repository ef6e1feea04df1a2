"""Methods: ways to forget. One file a method; `REGISTRY` lists them."""

from unsee.methods.base import REGISTRY, Method, TrainingSettings, get_method, make_method

__all__ = ["REGISTRY", "Method", "TrainingSettings", "get_method", "make_method"]
