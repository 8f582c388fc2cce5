"""Attention over views."""
