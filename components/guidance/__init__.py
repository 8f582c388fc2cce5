"""Classifier-free guidance schedules."""
