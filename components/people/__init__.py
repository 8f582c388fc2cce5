"""Procedural people, clothes and motions that datasets share."""
