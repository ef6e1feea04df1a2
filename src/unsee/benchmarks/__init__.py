"""Benchmarks: data, protocol, and the questions asked."""
