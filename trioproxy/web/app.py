"""The application: every route, on one page."""

from __future__ import annotations

from functools import partial

from quart import has_request_context
from quart_trio import QuartTrio
from quart_trio.wrappers import TrioResponse as Response

from trioproxy.config import Settings
from trioproxy.upstream import Router
from trioproxy.web.admission import Admission
from trioproxy.web.allowances import Allowances
from trioproxy.web.background import Background
from trioproxy.web.board import Board
from trioproxy.web.calls import Calls
from trioproxy.web.connection import ProxyRequest, RequestConnection, current_request
from trioproxy.web.cors import Cors
from trioproxy.web.door import Door
from trioproxy.web.forwarding import METHODS, Forward, ForwardedPath
from trioproxy.web.generate import Generate
from trioproxy.web.generations import Generations
from trioproxy.web.holdings import Holdings
from trioproxy.web.hosts import Hosts
from trioproxy.web.models import Models
from trioproxy.web.operations import Operations
from trioproxy.web.page import Page
from trioproxy.web.refusals import Refusals
from trioproxy.web.sockets import (
    ProxyWebsocket,
    SocketConnection,
    Sockets,
    current_websocket,
)
from trioproxy.web.streaming import Streams
from trioproxy.web.whereabouts import Whereabouts
from trioproxy.wire import OPENAI_RESPONSES, ROUTES, BadRequest


class ProxyApp(QuartTrio):
    """Quart, with a stack around each request (see :mod:`trioproxy.web.connection`). ``calls`` are
    made as its settings say."""

    calls: Calls
    asgi_http_class = RequestConnection
    asgi_websocket_class = SocketConnection
    request_class = ProxyRequest
    websocket_class = ProxyWebsocket


def create_app(settings: Settings, holdings: Holdings) -> ProxyApp:
    """Make the ASGI application that serves what is held as the settings say."""
    hub, roster, rates = holdings.hub, holdings.roster, holdings.rates
    app = ProxyApp(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body
    app.config["BODY_TIMEOUT"] = settings.body_timeout
    app.config["RESPONSE_TIMEOUT"] = None  # a stream lasts as long as it lasts
    refusals = Refusals(holdings.metrics)
    app.register_error_handler(Exception, refusals.respond)
    whereabouts = Whereabouts(settings.trusted_proxies)
    app.before_request(whereabouts.note)
    app.before_websocket(whereabouts.note_websocket)
    app.before_request(refuse_odd_target)
    app.before_websocket(refuse_odd_target)
    app.url_map.merge_slashes = False  # its redirect would name the wrong scheme behind a proxy

    hosts = Hosts(settings)
    app.before_request(hosts.check)
    app.before_websocket(hosts.check)
    cors = Cors(settings.allowed_origins)
    app.before_request(cors.answer_preflight)
    door = Door(holdings.tenants, cors)
    app.before_request(door.admit)
    app.before_websocket(door.admit_websocket)
    app.after_request(cors.mark)
    shared = holdings.places.limits
    app.after_request(Allowances((shared or rates).look).mark)
    app.after_request(note_answer)

    router = Router(roster)
    admission = Admission(settings, rates, holdings.metrics.loop_lag, shared)
    calls = app.calls = Calls(settings, hub, router, holdings.answers, admission, holdings.places)
    streams = Streams(settings, holdings.metronome)
    generate = Generate(settings, calls, streams)
    for path, dialect in ROUTES.items():
        if dialect is not OPENAI_RESPONSES:
            answer = partial(generate.answer, dialect)
            app.add_url_rule(path, dialect.name, answer, methods=["POST"])

    forward = Forward(router, admission)
    app.url_map.converters["forwarded"] = ForwardedPath
    app.add_url_rule("/<forwarded:path>", "forward", forward.answer, methods=METHODS)

    models = Models(roster, forward, admission)
    for path, answer in (("/v1/models", models.list), ("/v1/models/<path:model>", models.show)):
        # Whatever else is asked of them is forwarded, OPTIONS too.
        app.add_url_rule(path, path, answer, methods=["GET"], provide_automatic_options=False)

    background = Background(settings, calls, streams, generate, forward)
    response = "/v1/responses/<response_id>"
    app.add_url_rule("/v1/responses", "respond", background.create, methods=["POST"])
    app.add_url_rule(response, "retrieve", background.retrieve, methods=["GET"])
    app.add_url_rule(f"{response}/cancel", "cancel", background.cancel, methods=["POST"])

    generations = Generations(settings, calls, streams)
    one = "/v1/generations/<generation_id>"
    app.add_url_rule("/v1/generations", "list", generations.list, methods=["GET"])
    app.add_url_rule("/v1/generations", "create", generations.create, methods=["POST"])
    board = Board(holdings.board_hub, calls, streams)
    app.add_url_rule("/v1/generations/events", "board", board.events, methods=["GET"])
    app.add_url_rule(one, "show", generations.show, methods=["GET"])
    app.add_url_rule(one, "stop", generations.stop, methods=["DELETE"])
    app.add_url_rule(f"{one}/timing", "timing", generations.timing, methods=["GET"])
    app.add_url_rule(f"{one}/events", "events", generations.events, methods=["GET"])

    sockets = Sockets(holdings, cors, refusals)
    app.add_websocket("/v1/ws", "socket", sockets.many)
    app.add_websocket(f"{one}/ws", "socket_of_one", sockets.one)

    page = Page()
    app.add_url_rule("/", "page", page.index, methods=["GET"])
    app.add_url_rule("/page/<name>", "page_file", page.file, methods=["GET"])

    operations = Operations(holdings, is_open=settings.gateway.is_open)
    app.add_url_rule("/metrics", "metrics", operations.metrics, methods=["GET"])
    app.add_url_rule("/healthz", "health", operations.health, methods=["GET"])
    app.add_url_rule("/readyz", "ready", operations.readiness, methods=["GET"])
    app.add_url_rule("/openapi.json", "openapi", operations.describe, methods=["GET"])
    if settings.debug:
        app.add_url_rule("/debug/census", "census", operations.census, methods=["GET"])
    return app


async def note_answer(response: Response) -> Response:  # noqa: ASYNC124 - or Quart takes a thread
    """Note what a request is answered with, for the log."""
    request = current_request()
    request.status = response.status_code
    request.generation_id = response.headers.get("X-Generation-Id")
    return response


async def refuse_odd_target() -> None:  # noqa: ASYNC124 - or Quart takes a thread
    """Refuse a target that another server might read in another way (RFC 9112, section 3.2)."""
    target = current_request().target if has_request_context() else current_websocket().target
    if b"#" in target or not target.startswith(b"/") or target.startswith(b"//"):
        raise BadRequest("the target of a request must be a path with one / in front and no #")
