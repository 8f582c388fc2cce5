"""What a part of one's own is written against: interfaces by family, the registry, and bases to build on."""
