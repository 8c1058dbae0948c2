"""The file descriptors that this process has open, and what they are."""

from __future__ import annotations

import os
import socket

_TABLE = "/proc/self/fd"

Descriptors = frozenset[tuple[int, str]]
"""Numbers of descriptors, and what each refers to."""


def open_descriptors() -> Descriptors:
    """Each open descriptor and what it refers to, on Linux; nothing where the system does not list
    them in ``/proc/self/fd``.

    The target of a socket or a pipe is its own (``socket:[inode]``), so that a new one is told from
    an old one although it got the same number.
    """
    try:
        numbers = os.listdir(_TABLE)
    except FileNotFoundError:
        return frozenset()
    descriptors: set[tuple[int, str]] = set()
    for number in numbers:
        try:
            descriptors.add((int(number), os.readlink(f"{_TABLE}/{number}")))
        except FileNotFoundError:
            continue  # closed meanwhile, as is the one that the table was read through
    return frozenset(descriptors)


def name_of_descriptor(number: int, target: str) -> str:
    """What to call it: its number and target, and of a socket the addresses of both ends."""
    if not target.startswith("socket:"):
        return f"{number} {target}"
    try:
        duplicate = socket.socket(fileno=os.dup(number))
    except OSError:  # closed meanwhile, by another thread
        return f"{number} {target}"
    with duplicate:
        try:
            peer = duplicate.getpeername()
        except OSError:
            peer = "nobody"
        return f"{number} {target} {duplicate.getsockname()} connected to {peer}"
