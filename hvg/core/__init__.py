"""What everybody uses and nobody looks at twice: errors, files, digests, random keys, ranks, arrays, 8-bit values."""
