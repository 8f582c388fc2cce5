"""Searches, and their workers."""
