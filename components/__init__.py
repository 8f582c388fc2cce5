"""The swappable parts: one file is one part, its file name is its registered name."""
