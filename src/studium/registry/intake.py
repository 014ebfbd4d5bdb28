"""Taking a trained folder into the workspace: staged, judged and given its card, then moved to its place at once."""

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import psutil

from studium.errors import BadRequest, StoreUnavailable
from studium.records.adapters import Adapter, AdapterKind, canonical, content_sha256
from studium.records.models import ModelSpec
from studium.registry.bases import check_base, check_changes
from studium.registry.files import card_of, judge, sync_folder, take_copy, write_card

ADAPTERS = "adapters"
MAX_LINEAGE_BYTES = 1024 * 1024
MAX_BASE_LETTERS = 500
_INCOMING = ".incoming"


class Staged(NamedTuple):
    """An adapter whose files lie at `path`, checked and with their card, not yet in their place."""

    adapter: Adapter
    path: Path

    def settle(self, workspace: Path) -> None:
        """Move the files to their place; what a registration left there that was killed before its row goes away."""
        place = workspace / self.adapter.folder
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            shutil.rmtree(place)
        self.path.rename(place)
        sync_folder(place.parent)


@contextmanager
def staged(
    folder: Path, draft: Adapter, workspace: Path, models: Mapping[str, ModelSpec]
) -> Iterator[Staged]:
    """Copy a folder's files beside their place and yield them with the adapter they make; afterwards nothing is left.

    `draft` says what is known without looking. Blocks. Raises BadRequest, StoreUnavailable.
    """
    _check_told(draft)
    _sweep(workspace)
    path = workspace / ADAPTERS / _INCOMING / f"{os.getpid()}-{uuid.uuid4().hex}"
    try:
        files = take_copy(folder, path)
        serving = judge(path, files, draft.kind)
        _check_base(draft, path / serving if serving else None, models)
        adapter = replace(draft, files=files, serving_file=serving)
        adapter = replace(adapter, id=content_sha256(card_of(adapter)))
        write_card(path, card_of(adapter))
        yield Staged(adapter, path)
    except OSError as error:
        raise StoreUnavailable(
            f"{error.filename} cannot be written: {error.strerror}",
            expected="a writable workspace with free space",
            try_next="free some space and register again: nothing was registered",
        ) from error
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _check_told(draft: Adapter) -> None:
    """Raise BadRequest for a lineage that is no JSON of a sensible size: it may come with a folder from elsewhere."""
    try:
        size = len(canonical(draft.lineage))
    except TypeError as error:
        raise BadRequest(
            f"the lineage is no JSON: {error}", expected="texts, numbers, lists, maps"
        ) from error
    if size > MAX_LINEAGE_BYTES or len(draft.base) > MAX_BASE_LETTERS:
        raise BadRequest(
            f"the lineage has {size:,} bytes, the base's name {len(draft.base):,} letters",
            expected=f"{MAX_LINEAGE_BYTES:,} and {MAX_BASE_LETTERS} at most",
            try_next="register the run's own folder",
        )


def _check_base(draft: Adapter, serving: Path | None, models: Mapping[str, ModelSpec]) -> None:
    is_adapter = draft.kind is AdapterKind.ADAPTER
    base = check_base(draft.base, draft.base_sha256, models, needed=is_adapter)
    if is_adapter and base is not None and serving is not None:
        check_changes(serving, base)


def _sweep(workspace: Path) -> None:
    """Remove what registrations left that were killed."""
    for left in (workspace / ADAPTERS / _INCOMING).glob("*-*"):
        process = left.name.partition("-")[0]
        if process.isdigit() and not psutil.pid_exists(int(process)):
            shutil.rmtree(left, ignore_errors=True)
