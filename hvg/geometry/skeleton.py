"""The skeleton with SMPL-X joint names, its bones, and the anthropometric table of bone radii."""
