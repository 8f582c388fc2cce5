"""Encoders of text: from what is said of a clip to tokens for cross-attention."""
