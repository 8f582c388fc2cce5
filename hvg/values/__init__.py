"""Values that flow between parts: clips, bodies, cameras, conditioning, windows, and how they are folded and moved."""
