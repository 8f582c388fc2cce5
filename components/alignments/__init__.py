"""Alignments: how people are moved in the picture before the network sees them."""
