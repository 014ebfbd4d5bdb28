"""The model card of an export: what it is, what it was made from, how well it did, how the export was checked. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from studium.records.adapters import AdapterKind
from studium.train.exporting.trained import Trained

UNKNOWN = "unknown: nobody declared one"


def card(trained: Trained, licence: str, *, merged: bool, checked: Sequence[str], use: Sequence[str]) -> str:
    """Return a README.md with the front matter that hubs read. Nothing is claimed that was not measured."""
    adapter = trained.kind is AdapterKind.ADAPTER and not merged
    front = {
        "license": licence or "other",
        "base_model": trained.base,
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["studium", *(["lora"] if trained.kind is AdapterKind.ADAPTER else [])],
    }
    what = "a low-rank adapter of" if adapter else "a model trained from"
    made = " (the adapter is merged into it)" if trained.kind is AdapterKind.ADAPTER and merged else ""
    return "\n".join(
        [
            "---",
            *(f"{key}: {json.dumps(value)}" for key, value in front.items()),
            "---",
            "",
            f"# {trained.name}",
            "",
            f"{what[0].upper()}{what[1:]} `{trained.base}`{made}. Licence: {licence or UNKNOWN}.",
            "",
            "## Use",
            "",
            *(f"    {line}" for part in use for line in part.splitlines()),
            "",
            "## Made from",
            "",
            *_lineage(trained),
            "",
            "## Checked after writing",
            "",
            *(f"- {line}" for line in checked),
            "",
        ]
    )


def _lineage(trained: Trained) -> list[str]:
    told, recipe = trained.lineage, trained.lineage.get("recipe", {})
    lines = [f"- base: `{trained.base}`, SHA-256 {trained.base_sha256 or 'not noted when it was trained'}"]
    lines += [f"- data: {_source(one)}" for one in recipe.get("data", ())]
    lines += [f"- old skills kept with: {_source(one)}" for one in recipe.get("replay", {}).get("data", ())]
    if told.get("data_sha256"):
        lines.append(f"- SHA-256 of all rows: {told['data_sha256']}")
    if recipe:
        rank = recipe.get("lora", {}).get("rank", 0)
        how = f"low-rank adapter of rank {rank}" if rank else "all weights"
        optimiser = recipe.get("optimiser", {})
        lines.append(
            f"- training: {told.get('stage')}, {how}, {told.get('steps')} steps of {recipe.get('batch')} rows, "
            f"rate {optimiser.get('rate')}, seed {recipe.get('seed')}"
        )
    if score := told.get("validation", {}).get("score"):
        problems = told["validation"].get("scored", 0)
        lines.append(
            f"- best score on {problems:.0f} problems kept from training: {score:.3f} "
            "(it chose the weights, so it flatters them)"
        )
    lines.append(f"- code: commit {told.get('commit') or 'unknown'}; {_versions(told.get('versions', {}))}")
    return lines


def _source(source: Mapping[str, Any]) -> str:
    if source.get("file"):
        return f"a file of rows, {source['file'].rpartition('/')[2]}"
    levels = f", levels {', '.join(map(str, source['levels']))}" if source.get("levels") else ""
    return f"{source.get('rows') or 512} problems of {source['domain']}{levels}, seed {source.get('seed')}"


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or "versions unknown"
