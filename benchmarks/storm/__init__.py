"""The disconnect storm: many clients leave in many ways; what that costs a proxy and its engine.

    python -m benchmarks.storm [--target trioproxy,starlette] [--pattern all] [--clients 1000] …

How it measures, and what each figure means, is in ``benchmarks/README.md``. From the inside out:
``patterns`` are how clients leave, acted out by the ``crowd`` in the ``clients``' process, which is
told what to do by a ``plan`` and ends with the ``verification`` of what it was sent; ``engine`` is
what the calls came to; a ``measurement`` is one round of all that, a ``tour`` all rounds,
``summary``, ``table`` and ``plots`` what is told of them.
"""
