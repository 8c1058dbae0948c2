"""The routes: what a client may ask for, over HTTP, and how the answer is put into words.

A request for tokens goes through here in one line: :mod:`~trioproxy.web.connection` (one request,
and the stack of what it holds) -> :mod:`~trioproxy.web.generate` (the API's own routes) ->
:mod:`~trioproxy.web.asking` (what is asked for: key, mode, tenant) -> the hub ->
:mod:`~trioproxy.web.streaming` (a subscriber's batches as frames).
"""

from trioproxy.web.app import ProxyApp, create_app
from trioproxy.web.holdings import Holdings, open_holdings

__all__ = ["Holdings", "ProxyApp", "create_app", "open_holdings"]
