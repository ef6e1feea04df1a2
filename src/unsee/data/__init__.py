"""What is to be forgotten, and the samples made for it."""

from unsee.data.concept import KINDS, Concept, Fact, Request, Sample
from unsee.data.pictures import Picture, load_folder, load_picture

__all__ = ["KINDS", "Concept", "Fact", "Picture", "Request", "Sample", "load_folder", "load_picture"]
