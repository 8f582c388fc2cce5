"""What a person of a photo looks like from any camera in any pose."""
