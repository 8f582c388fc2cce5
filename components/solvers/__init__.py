"""How to step between noise levels."""
