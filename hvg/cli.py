"""The command line. ``hvg COMMAND key=value ...``; every command takes Hydra's override grammar."""

import os
import select
import signal
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pkgutil import resolve_name

from hvg import __version__
from hvg.commands.help import command_help, overview
from hvg.commands.table import COMMANDS
from hvg.commands.words import take_flags
from hvg.core.errors import HvgError, did_you_mean
from hvg.core.exit_codes import INTERRUPTED
from hvg.core.files import system_reason
from hvg.core.next_commands import HELP

# Of a command whose output nobody reads any more, as in `hvg list | head`: what a shell says where SIGPIPE ended a program.
UNREAD = 128 + signal.SIGPIPE


def main() -> None:
    """Entry point of the ``hvg`` command; errors of the user's are one message and exit code 1."""
    if isinstance(sys.stdout, TextIOWrapper):
        # In a file or a pipe, too, a line is there when it is said, and before what is said later on the standard error.
        sys.stdout.reconfigure(line_buffering=True)
    code = run(sys.argv[1:])
    if code == INTERRUPTED:
        # A second one while this process cleans up would end it with another exit code and a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Runs one command; returns the exit code."""
    try:
        code = _dispatch(arguments)
        # So that it fails here, not when Python ends.
        print(end="", flush=True)
        return code
    except BrokenPipeError:
        watched = select.poll()
        watched.register(sys.stdout, 0)
        # Nothing is wrong with the standard output: it was another pipe, such as that between two processes of a run.
        if not watched.poll(0):
            raise
        # What is left would be written, and refused again, when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD


def _dispatch(arguments: Sequence[str]) -> int:
    """Runs one command, and says in a line why it could not; returns the exit code."""
    name, *words = arguments or ["help"]
    if name in ("-h", "--help", "help"):
        print(overview())
        return 0
    if name == "--version":
        print(f"hvg {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"hvg: no command is named '{name}'. {did_you_mean(name, COMMANDS)} Next: `hvg --help`", file=sys.stderr)
        return 2
    command = COMMANDS[name]
    if {"-h", "--help"} & set(words):
        print(command_help(name))
        return 0
    try:
        flags, words = take_flags(words, command.flags)
        function = resolve_name(command.run)
        return function(words, flags) if command.flags else function(words)
    except HvgError as error:
        print(f"hvg {name}: {str(error).replace(HELP, HELP.replace('COMMAND', name))}", file=sys.stderr)
        return 1
    except OSError as error:
        # What was begun is removed where it arose; here it is told, whatever file it was.
        reason = system_reason(error)
        if reason is None:
            raise
        print(f"hvg {name}: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"hvg {name}: interrupted; {str(stop) or command.interrupted}", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    main()
