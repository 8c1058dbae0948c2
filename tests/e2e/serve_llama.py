"""Run llama.cpp's own HTTP server, from the `xllamacpp` wheel, until stdin ends.

    serve_llama.py MODEL SLOTS CTX shift|stop < a pipe that the parent holds

It listens on a free port of 127.0.0.1 and, once the model is loaded, prints its address as one
line. The pipe ends with the parent, however that dies, so the engine cannot be left behind. SIGTERM
has its default action and kills it at once.

`CTX` tokens of context are divided among the slots. A context that is full slides on (`shift`), so
that a model without an end of text streams for ever, or ends the answer (`stop`).
"""

import os
import sys
from importlib import import_module
from typing import Any

xllamacpp: Any = import_module("xllamacpp")  # an extension module without type stubs


def main() -> None:
    model, slots, ctx, when_full = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {"tiny"}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = int(slots)
    params.n_ctx = int(ctx)
    params.ctx_shift = when_full == "shift"
    # One thread: several meet at a spinning barrier after each operation, and on a machine whose
    # cores are wanted by others too (the proxy, the tests) a token could take seconds.
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    # Between two batches a prefill can be seen, and a client that left is noticed.
    params.n_batch = 64
    params.endpoint_slots = True
    params.endpoint_metrics = True
    params.warmup = False
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.buffer.read()
    os._exit(0)  # an orderly end would wait for the streams, and some have no end


if __name__ == "__main__":
    main()
