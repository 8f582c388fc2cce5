"""With which exit code a run ends that a signal stopped, when the step in which it came is saved."""

import signal

TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT
STOPPED = (TERMINATED, INTERRUPTED)
