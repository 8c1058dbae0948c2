"""How many points the suite has tried."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class Tally:
    """Points at which something was cancelled, points at which an I/O failed, and programs that
    were played; all without violation, or the test that tried them failed."""

    checkpoints: int = 0
    faults: int = 0
    programs: int = 0

    def add(self, other: dict[str, int]) -> None:
        """Count what another process has tried, whose tally was laid open by `as_dict`."""
        self.checkpoints += other["checkpoints"]
        self.faults += other["faults"]
        self.programs += other["programs"]

    def as_dict(self) -> dict[str, int]:
        return asdict(self)


tally = Tally()
