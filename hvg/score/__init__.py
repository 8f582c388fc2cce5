"""Protocols at work: clips measured, evaluations of models and of anybody's folders, statistics."""
