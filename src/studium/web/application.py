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
    app.add_routes(
        [
            web.get("/", status.home),
            web.get("/healthz", status.healthz),
            web.get("/readyz", status.readyz),
            web.get("/metrics", status.metrics),
            web.get("/v1/models", openai_api.models),
            web.get("/v1/models/{name:.+}", openai_api.model),
            web.get("/api/tags", ollama_api.tags),
            web.get("/api/ps", ollama_api.ps),
            web.get("/api/version", ollama_api.version),
            web.post("/v1/chat/completions", openai_api.chat_completions),
            web.post("/v1/completions", openai_api.completions),
            web.post("/v1/embeddings", openai_api.embeddings),
            web.post("/api/chat", ollama_api.chat),
            web.post("/api/generate", ollama_api.generate),
            web.post("/api/embed", ollama_api.embed),
            web.post("/api/show", ollama_api.show),
            web.post("/api/ask", own_api.ask),
            web.post("/api/feedback", feedback_api.give),
            web.get("/api/rollouts", adapters_api.rollouts),
            web.post("/api/why", feedback_api.explain),
            web.get("/api/adapters", adapters_api.listing),
            web.get("/api/adapters/state", adapters_api.state),
            web.get("/api/adapters/history", adapters_api.history),
            web.post("/api/adapters/promote/{role}", adapters_api.promote),
            web.post("/api/adapters/rollback/{role}", adapters_api.rollback),
            web.get("/api/config/cache", settings_api.show_cache),
            web.post("/api/config/cache", settings_api.change_cache),
            web.get("/api/config/governor", settings_api.show_governor),
            web.post("/api/config/governor", settings_api.change_governor),
            web.post("/api/leases", leases_api.hold),
            web.get("/api/leases", leases_api.listing),
            web.post("/api/train", train_api.begin),
            web.get("/api/jobs", train_api.listing),
            web.get("/api/jobs/{job}", train_api.show),
            web.post("/api/jobs/{job}/stop", train_api.stop),
            web.post("/api/jobs/{job}/resume", train_api.resume),
            web.get("/api/datasets/{sha256}", datasets_api.show),
            web.put("/api/datasets/{sha256}", datasets_api.put),
            web.get("/api/runs/{name}", runs_api.show),
            web.get("/api/runs/{name}/files/{path:.+}", runs_api.file),
            web.get("/api/intents", intents_api.listing),
            web.put("/api/intents/{name}", intents_api.put),
            web.get("/api/intents/{name}", intents_api.show),
            web.delete("/api/intents/{name}", intents_api.delete),
            web.post("/api/intents/{name}/observation", intents_api.observe),
            web.post("/api/leases/{name}/pause", leases_api.pause),
            web.post("/api/sessions", sessions_api.begin),
            web.get("/api/sessions", sessions_api.listing),
            web.get("/api/sessions/{name}", sessions_api.show),
            web.post("/api/sessions/{name}/resume", sessions_api.resume),
            web.post("/api/sessions/{name}/stop", sessions_api.stop),
        ]
    )
    return app
