"""``GET /v1/models``: what all upstreams have, by the names that are asked for here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from quart_trio.wrappers import TrioResponse as Response

from trioproxy.upstream import (
    Roster,
    Route,
    Target,
    UnknownModel,
    Upstream,
    ask_all,
    trace_context,
)
from trioproxy.web.admission import Admission
from trioproxy.web.connection import ProxyRequest, current_request
from trioproxy.web.forwarding import Forward
from trioproxy.wire import Model, models_body, read_models, unlisted_model

LIST = "v1/models"

SECONDS = 5.0
"""An upstream that does not tell its models in so long has none in the list."""


class Models:
    """``/v1/models`` and ``/v1/models/{model}``. With one upstream that gets what comes, both are
    its own."""

    def __init__(self, roster: Roster, forward: Forward, admission: Admission) -> None:
        self._roster = roster
        self._forward = forward
        self._admission = admission

    async def list(self) -> Response:
        if self._roster.is_single:
            return await self._forward.answer(LIST)
        models = await self._collect(current_request())
        return Response(models_body(models.values()), content_type="application/json")

    async def show(self, model: str) -> Response:
        """Raises :class:`~trioproxy.upstream.UnknownModel`."""
        if self._roster.is_single:
            return await self._forward.answer(f"{LIST}/{model}")
        found = (await self._collect(current_request())).get(model)
        if found is None:
            raise UnknownModel(f"there is no model {model!r} here")
        return Response(msgspec.json.encode(found), content_type="application/json")

    async def _collect(self, request: ProxyRequest) -> dict[str, Model]:
        self._admission.check_load()
        await self._admission.let_in(request.caller.tenant)
        members = self._roster.members
        context = trace_context(request.header_pairs)
        question = request.caller.request("GET", f"/{LIST}".encode(), b"", context)
        available = [each.upstream for each in members if each.standing.is_available]
        answers = await ask_all(available, question, seconds=SECONDS)
        lists = {upstream: read_models(body) for upstream, body in answers.items()}
        models: dict[str, Model] = {}
        for route in self._roster.routes:
            for model in _models_of(route, lists):
                if self._roster.route_for(model["id"]) is route:
                    models.setdefault(model["id"], model)
        return models


def _models_of(route: Route, lists: Mapping[Upstream, list[Model]]) -> Iterator[Model]:
    """What can be had by a route."""
    for target in route.targets:
        listed = lists.get(target.member.upstream, [])
        if target.model is None:
            yield from (model for model in listed if route.matches(model["id"]))
    if route.name is not None:
        yield {**_named(route.targets, lists), "id": route.name}


def _named(targets: Sequence[Target], lists: Mapping[Upstream, list[Model]]) -> Model:
    """What is told of a model that has another name with its upstreams."""
    for target in targets:
        for model in lists.get(target.member.upstream, []):
            if model["id"] == target.model:
                return model
    return unlisted_model("")
