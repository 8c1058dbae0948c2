"""Publishes an answer of the engine, event by event, as it comes.

    python -m benchmarks.peers.feeder ENGINE_URL PUBLISHER_URL PROMPT TOKENS RATE TTFT

It prints the publisher's address when it has asked the engine, and when all has been published it
waits to be ended.
"""

from __future__ import annotations

import json
import signal
import sys
from http.client import HTTPConnection
from urllib.parse import urlsplit

from benchmarks.readers import chat_body

DATA = b"data: "
TAKEN = (200, 201, 202)
"""What nchan answers, by whether somebody has read the message or the one before."""


def main() -> None:
    """Publish the answer; then wait. Raises :exc:`ConnectionError` where it is not taken."""
    engine_url, publisher_url, prompt, tokens, rate, ttft = sys.argv[1:]
    publisher = urlsplit(publisher_url)
    target = HTTPConnection(publisher.netloc)
    engine = HTTPConnection(urlsplit(engine_url).netloc)
    headers = {"Content-Type": "application/json", "x-sim-rate": rate, "x-sim-ttft": ttft}
    body = json.dumps(chat_body(prompt, int(tokens)))
    engine.request("POST", "/v1/chat/completions", body, headers)
    print(f"feeding {publisher_url}", flush=True)
    path = f"{publisher.path}?{publisher.query}"
    for line in engine.getresponse():
        if line.startswith(DATA):
            target.request("POST", path, line[len(DATA) :].rstrip(b"\n"))
            answer = target.getresponse()
            answer.read()
            if answer.status not in TAKEN:
                raise ConnectionError(f"the publisher answered {answer.status}")
    signal.pause()


if __name__ == "__main__":
    main()
