"""Attacks: attempts to bring back what a model was made to forget."""
