"""One file a command; ``hvg.cli`` dispatches."""
