"""What other programs hold, told from what is free and what models hold."""

from studium.fleet.elsewhere import Elsewhere, Holding, held_bytes, peak_bytes
from studium.records.hardware import DeviceBudget, DeviceKind
from studium.records.models import Residence


def device(name: str, size: int, *, margin: int = 0, kind: DeviceKind = DeviceKind.CPU) -> DeviceBudget:
    return DeviceBudget(name, kind, size, "for a test", margin_bytes=margin)


def held(size: int, name: str = "memory") -> Holding:
    return Holding(name, size, size)


def test_what_is_neither_free_nor_ours_was_taken_by_others():
    elsewhere = Elsewhere([device("memory", 100)])
    assert elsewhere.measured({"memory": 100}, []) == {"memory": 0}
    assert elsewhere.measured({"memory": 30}, [held(40)]) == {"memory": 30}
    assert elsewhere.measured({"memory": 60}, [held(40)]) == {"memory": 0}


def test_more_free_memory_than_the_budget_promises_is_nobodys_loss():
    assert Elsewhere([device("memory", 100)]).measured({"memory": 5000}, []) == {"memory": 0}


def test_a_model_that_is_loading_is_not_mistaken_for_a_thief():
    elsewhere = Elsewhere([device("memory", 100)])
    for free in (95, 80, 60):
        assert elsewhere.measured({"memory": free}, [Holding("memory", 0, 40)]) == {"memory": 0}


def test_a_thief_is_noticed_while_a_model_loads_as_far_as_it_must_be_one():
    elsewhere = Elsewhere([device("memory", 100)])
    assert elsewhere.measured({"memory": 30}, [Holding("memory", 0, 40)]) == {"memory": 30}
    # Seen before, it is not forgotten because a load could explain it now.
    assert elsewhere.measured({"memory": 65}, [Holding("memory", 0, 40)]) == {"memory": 30}
    assert elsewhere.measured({"memory": 90}, [Holding("memory", 0, 40)]) == {"memory": 10}


def test_the_margin_absorbs_what_comes_and_goes():
    elsewhere = Elsewhere([device("memory", 100, margin=40)])
    assert elsewhere.measured({"memory": 131}, []) == {"memory": 0}
    assert elsewhere.measured({"memory": 129}, []) == {"memory": 11}


def test_devices_of_main_memory_share_what_is_free_and_gpus_do_not():
    near, far = device("near", 60), device("far", 40)
    card = device("card", 50, kind=DeviceKind.GPU)
    elsewhere = Elsewhere([near, card, far])
    taken = elsewhere.measured({"near": 40, "far": 40, "card": 20}, [held(10, "near"), held(20, "card")])
    assert taken == {"near": 30, "far": 20, "card": 10}


def test_never_more_than_the_whole_budget_is_taken():
    assert Elsewhere([device("memory", 100)]).measured({"memory": -500}, []) == {"memory": 100}


def test_a_model_on_a_gpu_counts_as_what_it_holds_there():
    on_card = Residence("a", resident_bytes=700, peak_bytes=900, vram_bytes=4000)
    assert held_bytes(on_card, DeviceKind.GPU) == 4000
    assert peak_bytes(on_card) == 4000
    assert peak_bytes(Residence("a", resident_bytes=700, peak_bytes=900)) == 900
    assert held_bytes(Residence("a", resident_bytes=700, peak_bytes=900), DeviceKind.GPU) is None
