"""The nearest predecessors are read from the end of a history, and are those of the whole."""

import shutil
from pathlib import Path
from random import Random

from studium.errors import BadRequest
from studium.records.adapters import AdapterKind
from studium.registry import EMBEDDED, Registry
from studium.store import open_store


def test_the_end_of_a_long_history_tells_the_same_first_predecessors_as_all_of_it(tmp_path: Path):
    store = open_store(tmp_path / "state.db")
    registry, rng = Registry(store, tmp_path), Random(3)
    ids = [""]
    for name in ("v1", "v2", "v3"):
        (tmp_path / name).mkdir()
        shutil.copy(EMBEDDED / "sprout.gguf", tmp_path / name / "model.gguf")
        made = registry.register(
            tmp_path / name, "sprout", name=name, base="", base_sha256="", kind=AdapterKind.MODEL, lineage={}
        )
        ids.append(made.id)
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
