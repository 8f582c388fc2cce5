"""Small layers that parts share."""
