"""The machine as Studium sees it, also from inside a container's limit."""

import psutil

from studium.hardware import available_bytes, detect_devices, read_memory, snapshot
from studium.records.hardware import DeviceKind, Gpu, HardwareSnapshot

MIB, GIB = 1024**2, 1024**3


def test_a_snapshot_adds_up():
    now = snapshot()
    assert 0 < now.ram_available_bytes <= now.ram_total_bytes
    assert now.ram_used_bytes + now.ram_available_bytes == now.ram_total_bytes
    assert all(gpu.vram_free_bytes <= gpu.vram_total_bytes for gpu in now.gpus)


def test_the_budget_leaves_the_margin_and_is_never_negative():
    now = snapshot()
    (*_, roomy), (*_, none) = detect_devices(0, now), detect_devices(2**60, now)
    assert roomy.bytes > 0
    assert none.bytes == 0
    assert "less the margin" in roomy.source


def test_the_limit_of_a_container_is_respected(tmp_path):
    group = control_group(tmp_path, limit=str(100 * MIB), used=40 * MIB, cache=10 * MIB)
    memory = read_memory(tmp_path, group)
    assert memory.total == 100 * MIB
    assert memory.available == 70 * MIB


def test_a_limit_further_up_holds_too(tmp_path):
    group = control_group(tmp_path, limit="max", used=0, cache=0)
    (tmp_path / "outer" / "memory.max").write_text(f"{50 * MIB}\n")
    (tmp_path / "outer" / "memory.current").write_text(f"{60 * MIB}\n")
    memory = read_memory(tmp_path, group)
    assert memory.total == 50 * MIB
    assert memory.available == 0


def test_without_limits_the_machine_counts(tmp_path):
    group = control_group(tmp_path, limit="max", used=0, cache=0)
    assert read_memory(tmp_path, group).total == psutil.virtual_memory().total
    assert read_memory(tmp_path, tmp_path / "absent").total == psutil.virtual_memory().total


def test_every_gpu_is_a_device_and_main_memory_the_way_out():
    gpus = (Gpu("small", 8 * GIB, 4 * GIB, 4 * GIB), Gpu("large", 24 * GIB, 4 * GIB, 20 * GIB))
    devices = detect_devices(GIB, HardwareSnapshot(0.0, 32 * GIB, 16 * GIB, 16 * GIB, 0.0, gpus))
    assert [(one.name, one.kind, one.bytes // GIB, one.gpu) for one in devices] == [
        ("gpu1", DeviceKind.GPU, 19, 1),
        ("gpu0", DeviceKind.GPU, 3, 0),
        ("memory", DeviceKind.CPU, 15, None),
    ]
    assert devices[-1].offload and devices[-1].slowdown > 1


def test_without_a_gpu_main_memory_is_the_one_device_at_full_speed():
    (memory,) = detect_devices(GIB, HardwareSnapshot(0.0, 32 * GIB, 16 * GIB, 16 * GIB, 0.0))
    assert (memory.bytes, memory.slowdown, memory.offload) == (15 * GIB, 1.0, False)
    free = available_bytes([memory])["memory"]
    assert 0 < free <= psutil.virtual_memory().total


def control_group(root, *, limit, used, cache):
    inner = root / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "memory.max").write_text(f"{limit}\n")
    (inner / "memory.current").write_text(f"{used}\n")
    (inner / "memory.stat").write_text(f"anon 5\ninactive_file {cache // 2}\nactive_file {cache // 2}\n")
    membership = root / "cgroup"
    membership.write_text("0::/outer/inner\n")
    return membership
