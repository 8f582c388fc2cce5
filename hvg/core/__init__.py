"""Foundations that every other package may use: errors, files, digests, checkpoints, random keys, arrays, 8-bit values."""
