"""What a step needs, before it is taken."""
