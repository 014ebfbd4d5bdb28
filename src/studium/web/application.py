"""All routes on one aiohttp application. `server.serve` listens for it; tests may hand it to any runner."""

from typing import TYPE_CHECKING

from aiohttp import web

from studium.intents.channels import Channels
from studium.telemetry import Metrics
from studium.web import (
    adapters_api,
    datasets_api,
    feedback_api,
    intents_api,
    leases_api,
    ollama_api,
    openai_api,
    own_api,
    runs_api,
    sessions_api,
    settings_api,
    status,
    train_api,
)
from studium.web.access import gate_of
from studium.web.door import door
from studium.web.reception import RECEPTION, Reception

if TYPE_CHECKING:
    from studium.app import Studium


def make_web_app(
    studium: "Studium", metrics: Metrics | None = None, intents: Channels | None = None
) -> web.Application:
    """Return the application that serves `studium`, whose life is its caller's affair.

    Raises ConfigurationError where `studium.config.server` would let strangers in without a key.
    """
    app = web.Application(middlewares=[door])
    app[RECEPTION] = Reception(studium, gate_of(studium.config.server), metrics or Metrics())
    app[leases_api.HOLDERS] = {}
    app[sessions_api.HOSTS] = []
    app.on_shutdown.append(sessions_api.close)
    if intents is not None:
        app[intents_api.CHANNELS] = intents
    for routed in (
        status,
        openai_api,
        ollama_api,
        own_api,
        feedback_api,
        adapters_api,
        settings_api,
        leases_api,
    ):
        app.add_routes(routed.routes)
    for routed in (train_api, datasets_api, runs_api, intents_api, sessions_api):
        app.add_routes(routed.routes)
    return app
