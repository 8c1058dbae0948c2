"""What happens, measured: when each token came, what all generations have in common, what was
asked for.

The core tells each generation's :class:`Timing` what happens to it (see
:class:`trioproxy.fanout.Watch`). What is seldom, a timing hands on to listeners, of which
:class:`Metrics` is one.
"""

from trioproxy.telemetry.cluster import ClusterFigures, NodeStanding
from trioproxy.telemetry.gauges import Gauges, UpstreamFigures
from trioproxy.telemetry.histogram import Histogram
from trioproxy.telemetry.lag import LoopLag
from trioproxy.telemetry.log import GenerationLog, LogFormat, log_request, open_log
from trioproxy.telemetry.metrics import CONTENT_TYPE, Metrics
from trioproxy.telemetry.reader import Reader
from trioproxy.telemetry.report import describe_timing, describe_to, summarize_timing
from trioproxy.telemetry.summing import counted, sum_expositions
from trioproxy.telemetry.telemetry import Telemetry, timing_of
from trioproxy.telemetry.timing import Listener, Origin, Timing
from trioproxy.telemetry.writer import LogWriter

__all__ = [
    "CONTENT_TYPE",
    "ClusterFigures",
    "Gauges",
    "GenerationLog",
    "Histogram",
    "Listener",
    "LogFormat",
    "LogWriter",
    "LoopLag",
    "Metrics",
    "NodeStanding",
    "Origin",
    "Reader",
    "Telemetry",
    "Timing",
    "UpstreamFigures",
    "counted",
    "describe_timing",
    "describe_to",
    "log_request",
    "open_log",
    "sum_expositions",
    "summarize_timing",
    "timing_of",
]
