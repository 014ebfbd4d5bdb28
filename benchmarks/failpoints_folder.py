"""The workspace of `benchmarks.failpoints`: one adapter registered, evidence for it, one more folder to take in."""

from pathlib import Path
from typing import Any

from studium.records.adapters import AdapterKind, Evidence, Verdict, content_sha256
from studium.registry import EMBEDDED, Registry
from studium.store import Store, open_store

ROLE, BASE = "sprout", "sprout"
LEASE_S = 1.0


def registry_of(store: Store, workspace: Path) -> Registry:
    return Registry(store, workspace)


def told() -> dict[str, Any]:
    """Return what is said of a folder that is taken in."""
    return {"base": BASE, "base_sha256": "", "kind": AdapterKind.MODEL, "lineage": {"run": "failpoints"}}


def lay_out(folder: Path) -> Path:
    """Make the workspace in `folder` and return it."""
    trained = folder / "trained"
    trained.mkdir(parents=True)
    (trained / "model.gguf").write_bytes((EMBEDDED / f"{BASE}.gguf").read_bytes())
    (trained / "README.md").write_text("a model for failpoints\n")
    workspace = folder / "workspace"
    store = open_store(workspace / "state.db")
    registry = registry_of(store, workspace)
    adapter = registry.register(trained, ROLE, name="first", **told())
    body = {"pairs": [[0, 1]], "challenger": adapter.id}
    evidence = Evidence(content_sha256(body), 1.0, ROLE, "", adapter.id, Verdict.PROMOTE, body)
    registry.add_evidence(evidence)
    (workspace / "evidence_id").write_text(evidence.id)
    store.close()
    return workspace
