"""Conditioners: everything that steers generation."""
