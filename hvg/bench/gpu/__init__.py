"""What a GPU makes of training and sampling at full size, in minutes."""
