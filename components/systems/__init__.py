"""Systems: what is trained."""
