"""A part whose module cannot be imported: it may hurt only a run that selects it."""

import a_package_that_does_not_exist  # noqa: F401


class Broken:
    """Never reached."""
