"""Other proxies for the same engine, set up as their users would, with no deliberate flaw.

Each runs as one process that answers (nginx: one worker), as trioproxy does, and with limits that a
thousand clients fit in.
"""
