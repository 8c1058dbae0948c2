"""Attacks. Each does harm to a proxy that lacks what is there against it, and ends by seeing that
the next request is answered and that nothing is left.

======================================================  ============================================
attack                                                  tests
======================================================  ============================================
request smuggling: lengths, codings, line ends          test_smuggling; serving/test_http1
smuggling towards the engine, and its answers           test_smuggling; upstream/test_framing
HTTP/2 by preface or upgrade, pipelining                serving/test_http1, test_keep_alive
a handshake with a body, or refused and kept            test_smuggling; web/test_hostile_sockets
CRLF, NUL, terminal escapes: headers, log, metrics      test_injection; telemetry/test_log
events, ids and ends by an engine's data                test_hostile_engine; wire/test_sse_encoding
heads, chunks and floods of an engine                   test_hostile_engine; upstream/test_framing
numbers and nesting of an engine                        test_hostile_engine; fuzz/test_json
calls elsewhere, paths above the prefix, redirects      test_forgery; web/test_forwarding
another's generations: by key, id, socket, list         test_tenants; web/test_tenants, test_door
the board of another                                    web/test_board
foreign pages: forms, WebSockets, reading answers       test_foreign_pages; web/test_cors
DNS rebinding                                           test_foreign_pages
the password that a browser keeps                       web/test_door
trickled heads, bodies, handshakes (TLS, WebSocket)     test_slowness; serving/test_keep_alive
who reads nothing, or asks and does not read            test_slowness; serving/test_slow_readers
ten thousand idle connections                           test_slowness
large heads, targets and bodies, packed bodies          test_bombs; web/test_limits
JSON: depth, numbers, twice the same field, encodings   test_bombs; wire/test_call
WebSocket messages: the same, broken frames, floods     test_bombs; web/test_hostile_sockets
keys and prompts in log, answers, metrics, settings     test_secrets; tests/test_config
what a crash tells                                      test_secrets
one tenant that takes every slot, or asks too often     web/test_overload, test_rates
calls beyond what can be served                         web/test_overload; serving/test_turnstile
a request that shuts an engine for all                  upstream/test_router
guessing a key by time                                  test_key_timing
======================================================  ============================================
"""
