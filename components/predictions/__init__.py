"""Parameterisations and noise levels."""
