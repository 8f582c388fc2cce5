"""hvg: a framework for comparing methods of controllable human video generation."""

__version__ = "0.1.0"
