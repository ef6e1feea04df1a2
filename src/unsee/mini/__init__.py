"""The embedded model and its benchmark data."""
