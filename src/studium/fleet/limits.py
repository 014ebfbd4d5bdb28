"""What residency may use, and where each model may live. Plain values and pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from studium.records.hardware import DeviceBudget, DeviceKind
from studium.records.models import Capabilities, ModelSpec

MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Limits:
    """What residency may use. `load_timeout_s` bounds one load, `patience_s` see `plan`.

    Without `devices` there is one, main memory, of `budget_bytes`. `settle_s` is how long an engine may
    take until what it says it freed is free; `watch_s` how often, at most, memory is measured while
    somebody waits; `leave_s` how long the holder of a lease may take to give way before it is reported.
    """

    budget_bytes: int
    max_models: int = 6
    load_timeout_s: float = 60.0
    patience_s: float = 10.0
    devices: tuple[DeviceBudget, ...] = ()
    settle_s: float = 5.0
    watch_s: float = 0.5
    leave_s: float = 30.0
    quiet_s: float = 5.0

    @property
    def homes(self) -> tuple[DeviceBudget, ...]:
        """The devices models may live on, those preferred first."""
        return self.devices or (DeviceBudget(MEMORY, DeviceKind.CPU, self.budget_bytes, "declared"),)

    @property
    def total_bytes(self) -> int:
        """The budgets of all devices together."""
        return sum(device.bytes for device in self.homes)

    def on_gpu(self, model: ModelSpec, capabilities: Capabilities) -> bool:
        """Say whether a model in memory works on a GPU of ours; one that its engine places is taken to."""
        if not capabilities.manages_memory:
            return False
        return model.gpu_layers > 0 if capabilities.places_models else self.homes[0].kind is DeviceKind.GPU

    def profile_device(self, device: str) -> str:
        """Return what profiles call a device: nothing where there is only one to be on."""
        return device if len(self.devices) > 1 else ""


def homes_of(
    model: ModelSpec, capabilities: Capabilities, devices: Sequence[DeviceBudget]
) -> list[DeviceBudget]:
    """Return where `model` may live, the preferred first.

    An engine that decides by itself is counted on the first device. Else layers for the GPU make the GPUs
    preferred and main memory the way out; a model without any stays in main memory.
    """
    if not capabilities.places_models or len(devices) == 1:
        return list(devices[:1])
    gpus = [device for device in devices if device.kind is DeviceKind.GPU]
    others = [device for device in devices if device.kind is not DeviceKind.GPU]
    return [*gpus, *others] if model.gpu_layers else others or gpus


def placed(model: ModelSpec, device: DeviceBudget) -> ModelSpec:
    """Return `model` as it is started on `device`: on its GPU, or without layers on any."""
    if device.kind is DeviceKind.GPU:
        return replace(model, gpu=device.gpu)
    return replace(model, gpu=None, gpu_layers=0) if model.gpu_layers and device.offload else model


def stepped_down(model: ModelSpec, least_context_tokens: int | None) -> ModelSpec | None:
    """Return the next smaller shape of `model`: half the slots, else half the context; None where none is left.

    The context never falls below `least_context_tokens`; None means that all of it is needed.
    """
    if model.slots > 1:
        return replace(model, slots=model.slots // 2)
    if least_context_tokens is None or model.context_tokens // 2 < max(least_context_tokens, 1):
        return None
    return replace(model, context_tokens=model.context_tokens // 2)


def difference(declared: ModelSpec, actual: ModelSpec) -> str:
    """Say how a shape was stepped down: "2 of 4 slots", "512 of 1,024 tokens of context"; empty if it was not."""
    if actual.slots != declared.slots:
        return f"{actual.slots} of {declared.slots} slots"
    if actual.context_tokens != declared.context_tokens:
        return f"{actual.context_tokens:,} of {declared.context_tokens:,} tokens of context"
    return ""
