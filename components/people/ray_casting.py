"""Warp, which casts rays for renderers and which the Anny body model starts when it is imported."""

from __future__ import annotations

import warp

from hvg.core.quiet import without_line

# No banner on a user's terminal.
warp.config.log_level = warp.LOG_ERROR


def start_warp() -> None:
    """Starts Warp; nothing after the first time. That there is no GPU it says by its own code, whatever its level."""
    with without_line("Warp CUDA warning: Could not find or load the NVIDIA CUDA driver"):
        warp.init()
