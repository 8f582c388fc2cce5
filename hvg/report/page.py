"""Pages that open from disk: templates, style sheet and scripts of hvg/report/pages in one file that asks for nothing."""

import base64
import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from hvg.core.files import write_text
from hvg.media.video import video_data_uri
from hvg.report.figures import look
from hvg.report.number_format import format_number
from hvg.report.origin import duration


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
    environment.filters |= {"quote": quote, "number": format_number, "duration": duration, "clock": clock}
    environment.globals["look"] = look
    script = "\n".join([get_plotlyjs(), *(sources.get_source(environment, name)[0] for name in scripts)])
    # The browser runs what has this digest, and nothing else that may have got into the page.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    write_text(path, environment.get_template(template).render(shown, script=script, script_digest=digest))


def clock(seconds: float) -> str:
    """A moment, in seconds since 1970, as the calendar and the clock of this machine show it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def embedded(paths: Iterable[Path], most: int) -> Iterator[str | None]:
    """The address under which a page holds each video itself; None for those that make it more than ``most`` characters."""
    used = 0
    for path in paths:
        source = video_data_uri(path)
        fits = used + len(source) <= most
        used += len(source) if fits else 0
        yield source if fits else None
