"""PyTorch's compiler is imported by what compiles, not by what is loaded beside it."""

import sys
from typing import Any, cast

COMPILER = "torch._dynamo"


def import_diffusers() -> None:
    """Imports the modules of diffusers that all of its networks need, without PyTorch's compiler, for which they have a way.

    They import it for one mark on classes, which takes 1.5 s, and do without the mark where it is missing. It matters where
    a class is called within compiled code, which nothing here does: modules are made before. Nothing is done where the
    compiler or diffusers is there already.
    """
    if COMPILER in sys.modules or "diffusers.utils" in sys.modules:
        return
    # None: whoever imports it is told that it is missing, as long as it stands there.
    cast("dict[str, Any]", sys.modules)[COMPILER] = None
    try:
        import diffusers.utils  # noqa: F401  # pyright: ignore[reportUnusedImport]
    finally:
        del sys.modules[COMPILER]
