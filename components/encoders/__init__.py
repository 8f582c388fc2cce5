"""Encoders of maps: from a control map to what the backbone is told at its stem."""
