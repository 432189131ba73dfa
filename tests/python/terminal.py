"""Runs a program on a terminal of its own, and checks that it leaves the terminal as it was.

usage: terminal.py STEP... -- PROGRAM ARGUMENT...

Steps: see:TEXT waits until the text stands in what was drawn since the last step; type:KEYS presses keys;
send:SIGNAL signals the program. Then the program must end, the terminal's settings must be those of before,
and the last word on the alternate screen and on the cursor must be "away" and "shown". Prints the exit code.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

PATIENCE = 60
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def main():
    split = sys.argv.index("--")
    steps, program = sys.argv[1:split], sys.argv[split + 1 :]
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    before = termios.tcgetattr(slave)

    def own():
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    child = subprocess.Popen(program, stdin=slave, stdout=slave, stderr=slave, preexec_fn=own)
    everything = b""
    deadline = time.monotonic() + PATIENCE

    def read():
        nonlocal everything
        ready, _, _ = select.select([master], [], [], 0.1)
        if ready:
            everything += os.read(master, 65536)
        return bool(ready)

    try:
        since = 0
        for step in steps:
            verb, _, argument = step.partition(":")
            if verb == "see":
                while argument.encode() not in ESCAPES.sub(b"", everything[since:]):
                    if time.monotonic() > deadline or child.poll() is not None:
                        sys.exit(f"{argument!r} was not seen; drawn:\n{ESCAPES.sub(b' ', everything[since:])!r}")
                    read()
                continue
            since = len(everything)
            if verb == "type":
                os.write(master, argument.encode().decode("unicode_escape").encode())
            elif verb == "send":
                child.send_signal(signal.Signals["SIG" + argument])
            else:
                sys.exit(f"no such step: {step}")
        while child.poll() is None:
            if time.monotonic() > deadline:
                sys.exit("the program does not end")
            read()
        while read():
            pass
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    if termios.tcgetattr(slave) != before:
        sys.exit("the terminal's settings are not those of before")
    if everything.count(b"\x1b[?1049h") == 0:
        sys.exit("the program never took the alternate screen")
    for on, off, name in [(b"\x1b[?1049h", b"\x1b[?1049l", "alternate screen"), (b"\x1b[?25l", b"\x1b[?25h", "cursor")]:
        if everything.rfind(off) < everything.rfind(on):
            sys.exit(f"the {name} was not given back")
    print(child.returncode)


main()
