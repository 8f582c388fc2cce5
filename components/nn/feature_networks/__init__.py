"""Pretrained networks that metrics look through: own implementations that take the published files."""
