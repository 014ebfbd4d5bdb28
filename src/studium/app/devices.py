"""Where models may live: the devices a configuration declares, else those of this machine."""

from dataclasses import replace
from itertools import count

from studium.config import Config
from studium.hardware import MAIN_MEMORY, detect_devices, snapshot
from studium.records.hardware import DeviceBudget, DeviceKind
from studium.registry import Roster


def device_budgets(config: Config, roster: Roster) -> tuple[DeviceBudget, ...]:
    """Return the devices models may live on, those preferred first: as declared, else what is detected.

    A declared budget keeps a smaller margin, a tenth of itself at most: its author has thought of the rest.
    """
    fleet = config.fleet
    if fleet.devices:
        return _declared_devices(config)
    now = snapshot()
    wants_gpu = any(
        model.gpu_layers or _kind_of(model.engine, config) == "ollama" for model in roster.models.values()
    )
    detected = detect_devices(fleet.safety_margin_bytes, now)
    if fleet.memory_budget_bytes is None:
        return detected if wants_gpu else detected[-1:]
    home = detected[0] if wants_gpu else detected[-1]
    return (
        replace(
            home,
            name=MAIN_MEMORY,
            bytes=fleet.memory_budget_bytes,
            source="declared as fleet.memory_budget",
            margin_bytes=_declared_margin(config, fleet.memory_budget_bytes),
            slowdown=1.0,
            offload=False,
        ),
    )


def _declared_devices(config: Config) -> tuple[DeviceBudget, ...]:
    gpus = count()
    kinds = [DeviceKind(device.kind) for device in config.fleet.devices]
    return tuple(
        DeviceBudget(
            device.name,
            kind,
            device.memory_bytes,
            f"declared for {device.name} in fleet.devices",
            _declared_margin(config, device.memory_bytes),
            device.slowdown,
            gpu=next(gpus) if kind is DeviceKind.GPU else None,
            offload=kind is DeviceKind.CPU and DeviceKind.GPU in kinds,
        )
        for device, kind in zip(config.fleet.devices, kinds, strict=True)
    )


def _declared_margin(config: Config, budget_bytes: int) -> int:
    return min(config.fleet.safety_margin_bytes, budget_bytes // 10)


def _kind_of(engine: str, config: Config) -> str:
    declared = config.engines.get(engine)
    return declared.kind if declared else engine
