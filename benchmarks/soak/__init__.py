"""A soak: for many minutes readers do whatever readers do, and nothing may be lost or left behind.

    python -m benchmarks.soak --minutes 20 [--seed 1] [--readers 60] [--retention 10]

The simulated engine, the proxy and the crowd of readers are processes of their own. Each reader
visits again and again, each time in one of the ways of :mod:`~benchmarks.soak.behaviours` (joining
late, leaving by close, half-close or reset, stalling, coming back, stopping for everyone, ...),
drawn from the seed, for a question of :mod:`~benchmarks.soak.questions`, which may make the engine
fail. What a reader sees is held against what the engine must have said, event by event
(:mod:`~benchmarks.soak.reading`).

Proxy and engine are looked at every second (:mod:`~benchmarks.soak.recording`). At the end all
readers leave at once, and :mod:`~benchmarks.soak.verdict` says what did not hold: a count that is
not back at its baseline, memory that grew after the warm-up, a violation that a reader saw, an
exception in the proxy's log. The exit status is 1 then.
"""
