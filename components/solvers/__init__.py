"""Solvers: steps between noise levels."""
