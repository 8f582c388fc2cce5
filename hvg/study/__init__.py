"""Arms times seeds, trained and compared."""
