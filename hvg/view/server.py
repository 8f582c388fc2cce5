"""The server of the page: where it listens, how long, and what it writes."""

import errno
import io
import socket
import time
from contextlib import redirect_stdout

import viser

from hvg.config.view_options import ViewOptions
from hvg.core import outputs
from hvg.core.errors import HvgError
from hvg.sample.camera_paths import write_cameras
from hvg.view.key_cameras import EditedPath
from hvg.view.page import Page
from hvg.view.scene import Scene

# Ports that are tried, one after the other.
PORTS = 100
# Seconds between two looks at whether something plays.
PAUSE = 0.05


class LocalServer(viser.ViserServer):
    """viser's server, which tells nobody outside of this machine that it is there."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        """None: the library would open a tunnel to a server of its authors', for anybody who asks it to."""
        return None


def open_page(scene: Scene, options: ViewOptions) -> Page:
    """The page of a scene, which listens from now on. Raises: HvgError where it cannot."""
    port = free_port(options.host, options.port)
    # What the library says of itself in several lines is one of ours.
    with redirect_stdout(io.StringIO()):
        server = LocalServer(host=options.host, port=port, label="hvg view", verbose=False)
    return Page(server, scene, options.frame, Saver(options, scene.names))


def address(page: Page) -> str:
    """Where a browser finds the page."""
    host, port = page.server.get_host(), page.server.get_port()
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"


def serve(page: Page) -> None:
    """Plays the page's scene while it is to be played, until Ctrl-C; then it is closed."""
    try:
        while True:
            tick(page)
    except KeyboardInterrupt:
        pass
    finally:
        close(page)


def tick(page: Page) -> None:
    """The next frame, if they go on by themselves; it takes as long as a frame lasts, or a moment."""
    due = time.monotonic() + (1 / page.rate if page.is_playing else PAUSE)
    if page.is_playing:
        page.step()
    time.sleep(max(0.001, due - time.monotonic()))


def close(page: Page) -> None:
    """Stops the page's server."""
    with redirect_stdout(io.StringIO()):
        page.server.stop()


def free_port(host: str, first: int) -> int:
    """The first port from ``first`` on that is free; 0 stays 0, which is any.

    The library would look for one for ever. Raises: HvgError where there is none, or no such host.
    """
    for port in range(first, min(first + PORTS, 65_536)):
        try:
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
                # As servers do: a port that another one has just left is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, port))
            return port
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise HvgError(
                    f"host={host} port={port}: nothing can listen there: {error.strerror or error}; give host=127.0.0.1, "
                    "and a port from 1024 on"
                ) from None
    raise HvgError(f"port={first}: no port from there on is free; give another port=, or port=0 for any")


class Saver:
    """Writes the cameras of a page to ``out``; a file that was there before the page is replaced with ``overwrite`` alone."""

    def __init__(self, options: ViewOptions, names: tuple[str, ...]) -> None:
        self._options, self._names, self._own = options, names, False

    def __call__(self, path: EditedPath) -> str:
        """Writes them; says where. Raises: HvgError where the file is somebody's, OSError where it cannot be written."""
        out = self._options.out
        outputs.refuse_existing(out, self._options.overwrite or self._own)
        cameras = path.cameras()
        write_cameras(out, cameras, self._names)
        self._own = True
        views, frames = cameras.shape
        return f"{out}: {views} camera(s), {frames} frame(s); hvg sample camera={out} takes them"


def check_output(options: ViewOptions) -> None:
    """Raises: HvgError, before any work, where cameras could not be saved to the file that was asked for."""
    if "out" in options.model_fields_set:
        outputs.try_file(options.out, "out")
        outputs.refuse_existing(options.out, options.overwrite)
