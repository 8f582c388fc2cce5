"""Refiners: from the frames of one model to those of another."""
