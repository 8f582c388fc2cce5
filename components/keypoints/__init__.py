"""Regressors of key points."""
