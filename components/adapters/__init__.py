"""What of a system trains, and what is added to it for that."""
