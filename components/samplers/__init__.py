"""Sampling plans: what to denoise together at each step."""
