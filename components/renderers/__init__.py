"""Mesh renderers."""
