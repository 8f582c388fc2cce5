"""Interfaces of parts by family, the registry, and bases to build parts on."""
