"""Foundations that every other package may use: errors, files, digests, random keys, ranks, arrays, 8-bit values."""
