"""What a long history costs: its end tells the nearest predecessors, and a promotion reads no more than before."""

import shutil
from pathlib import Path
from random import Random

import pytest

from studium.errors import BadRequest
from studium.records.adapters import AdapterKind
from studium.registry import EMBEDDED, Registry
from studium.store import adapters, open_store


def registered(registry: Registry, folder: Path, name: str) -> str:
    (folder / name).mkdir()
    shutil.copy(EMBEDDED / "sprout.gguf", folder / name / "model.gguf")
    made = registry.register(
        folder / name, "sprout", name=name, base="", base_sha256="", kind=AdapterKind.MODEL, lineage={}
    )
    return made.id


def test_the_end_of_a_long_history_tells_the_same_first_predecessors_as_all_of_it(tmp_path: Path):
    store = open_store(tmp_path / "state.db")
    registry, rng = Registry(store, tmp_path), Random(3)
    ids = ["", *(registered(registry, tmp_path, name) for name in ("v1", "v2", "v3"))]
    for _ in range(120):
        with registry.lease("test") as token:
            try:
                if rng.random() < 0.5:
                    registry.rollback("sprout", actor="test", token=token)
                else:
                    registry.force("sprout", rng.choice(ids), reason="a test", actor="test", token=token)
            except BadRequest:  # it serves already, or nothing is before it
                continue
        nearest, every = registry.nearest_predecessors("sprout"), registry.predecessors("sprout")
        assert nearest == every[: len(nearest)] and bool(nearest) == bool(every)
    store.close()


def test_a_promotion_reads_no_more_of_a_long_history_than_of_a_short_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It read all of it, to learn whether the adapter's files were removed."""
    store = open_store(tmp_path / "state.db")
    registry, read = Registry(store, tmp_path), list[object]()
    ids = [registered(registry, tmp_path, name) for name in ("v1", "v2")]
    monkeypatch.setattr(
        adapters, "change_of", lambda row, made=adapters.change_of: read.append(row) or made(row)
    )
    rows: list[int] = []
    for number in range(40):
        read.clear()
        with registry.lease("test") as token:
            registry.force("sprout", ids[number % 2], reason="a test", actor="test", token=token)
        rows.append(len(read))
    assert rows[0] > 0 and set(rows) == {rows[0]}
    store.close()
