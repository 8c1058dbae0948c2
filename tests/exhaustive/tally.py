"""How many points the suite has tried."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Tally:
    """Points at which something was cancelled, points at which an I/O failed, and programs that
    were played; all without violation, or the test that tried them failed."""

    checkpoints: int = 0
    faults: int = 0
    programs: int = 0


tally = Tally()
