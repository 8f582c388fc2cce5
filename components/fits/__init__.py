"""Fits: what estimators make of a true body."""
