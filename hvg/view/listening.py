"""The server of a page, which listens before there is a scene: torch is imported later, for seconds."""

import errno
import io
import socket
from contextlib import redirect_stdout

import viser

from hvg.config.view_options import ViewOptions
from hvg.core import outputs
from hvg.core.errors import HvgError

# Ports that are tried, one after the other.
PORTS = 100


class LocalServer(viser.ViserServer):
    """viser's server, which tells nobody outside of this machine that it is there.

    waits: what the page says until it has a scene.
    """

    waits: viser.GuiHtmlHandle

    def request_share_url(self, verbose: bool = True) -> str | None:
        """None: the library would open a tunnel to a server of its authors', for anybody who asks it to."""
        return None


def check_output(options: ViewOptions) -> None:
    """Raises: HvgError, before any work, where cameras could not be saved to the file that was asked for."""
    if "out" in options.model_fields_set:
        outputs.try_file(options.out, "out")
        outputs.refuse_existing(options.out, options.overwrite)


def listen(options: ViewOptions) -> LocalServer:
    """A server whose page opens from now on, and says that the scene is being read. Raises: HvgError where it cannot listen."""
    port = free_port(options.host, options.port)
    # What the library says of itself in several lines is one of ours.
    with redirect_stdout(io.StringIO()):
        server = LocalServer(host=options.host, port=port, label="hvg view", verbose=False)
    server.gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
    server.waits = server.gui.add_html('<div style="padding: 0.3em 0.9em">The scene is being read ...</div>')
    return server


def address(server: LocalServer) -> str:
    """Where a browser finds its page."""
    host, port = server.get_host(), server.get_port()
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"


def close(server: LocalServer) -> None:
    """Stops it."""
    with redirect_stdout(io.StringIO()):
        server.stop()


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
