"""Pages that open from disk: templates, style sheet and scripts of hvg/report/pages in one file that asks for nothing."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from hvg.core.files import write_text
from hvg.report.figures import look
from hvg.report.number_format import format_number


def write_page(path: Path, template: str, scripts: Sequence[str], **shown: Any) -> None:
    """Writes a page. scripts: files that it runs, after plotly. shown: what its template names."""
    sources = PackageLoader("hvg.report", "pages")
    environment = Environment(
        loader=sources,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # NaN and infinity are no JSON.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}
    environment.filters |= {"quote": quote, "number": format_number}
    environment.globals["look"] = look
    script = "\n".join([get_plotlyjs(), *(sources.get_source(environment, name)[0] for name in scripts)])
    # The browser runs what has this digest, and nothing else that may have got into the page.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    write_text(path, environment.get_template(template).render(shown, script=script, script_digest=digest))
