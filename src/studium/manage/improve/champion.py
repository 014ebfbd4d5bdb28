"""What serves a role now, as a recipe of training names it."""

from typing import TYPE_CHECKING

from studium.errors import BadRequest
from studium.records.adapters import Adapter, AdapterKind
from studium.registry import Registry, build_roster, ships_with_studium
from studium.registry.lineage import merged_path
from studium.serve.team.routing import holders_of
from studium.store import open_store

if TYPE_CHECKING:
    from studium.config import Config

STORE_FILE = "state.db"


def champion_of(config: "Config", role: str) -> Adapter | None:
    """Return the adapter that serves a role, None where the student itself does. Blocks for the store."""
    path = config.workspace / STORE_FILE
    if not path.is_file():
        return None
    store = open_store(path)
    try:
        registry = Registry(store, config.workspace)
        champion = registry.route(role).champion
        return registry.adapter(role, champion) if champion else None
    finally:
        store.close()


def trainable(config: "Config", role: str) -> str:
    """Return the role's student where it serves itself (an embedded one's name, else its file), or its champion's file.

    Blocks for the store. Raises BadRequest where the champion is an adapter whose run, with the merged model, is gone.
    """
    students = build_roster(config).students
    holder = holders_of(students, {name: one.student for name, one in config.roles.items()})[role]
    adapter = champion_of(config, role)
    if adapter is None:
        return holder.model.name if ships_with_studium(holder) else holder.model.source
    if adapter.kind is AdapterKind.MODEL:
        return str((config.workspace / adapter.folder / adapter.serving_file).absolute())
    merged = merged_path(adapter, config.workspace)
    if merged is None:
        raise BadRequest(
            f"{role}/{adapter.name} is an adapter, and the merged model to go on from is not there",
            expected=f"{config.workspace}/runs/{adapter.lineage.get('run') or 'NAME'}/checkpoint/model.gguf",
            try_next=f"studium adapters rollback {role}, or keep the runs of what serves",
        )
    return str(merged.absolute())
