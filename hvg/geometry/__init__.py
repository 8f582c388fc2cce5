"""Geometry: ray casting, skeletons, bone tables."""
