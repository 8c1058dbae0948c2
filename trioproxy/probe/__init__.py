"""A curl for event streams: read them as a client does, and tell how their tokens flow.

What it looks for is the proxy that buffers. Behind one no token is lost and the last comes no
later, but they come in bunches: a reader sees nothing, and then a page. In the figures, tokens
arrive together and the gaps between reads grow.
"""

from trioproxy.probe.display import render, verdict
from trioproxy.probe.report import Arrival, Ending, Report, Trace, exit_code, measure
from trioproxy.probe.stream import probe

__all__ = [
    "Arrival",
    "Ending",
    "Report",
    "Trace",
    "exit_code",
    "measure",
    "probe",
    "render",
    "verdict",
]
