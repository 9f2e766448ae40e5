"""What NVIDIA's library tells of a GPU: each query alone, looks between examples, and a mark on a disturbed run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bild.measure import environment
from bild.measure.environment import Watch, look, uuid_of, watch
from bild.measure.processes import Sessions

GPU = torch.device("cuda", 0)


class Nvml:
    """A T4 that can be throttled; what is in `refused` it does not tell."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.bits, self.clock, self.pids, self.violation, self.asked = 1, 1590, [7], 0, 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvmlDevice") and name in object.__getattribute__(self, "refused"):
            raise RuntimeError("Not Supported")
        return object.__getattribute__(self, name)

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        self.asked += 1
        assert uuid == "GPU-aa-bb"
        return uuid

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.1"

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        return self.clock if kind == 1 else 5000

    def nvmlDeviceGetMaxClockInfo(self, handle: str, kind: int) -> int:
        return 1590

    def nvmlDeviceGetTemperature(self, handle: str, kind: int) -> int:
        return 60

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return 69_800

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: str) -> int:
        return 70_000

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return SimpleNamespace(free=12 << 30)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return self.bits

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in self.pids]

    def nvmlDeviceGetPersistenceMode(self, handle: str) -> int:
        return 1

    def nvmlDeviceGetEccMode(self, handle: str) -> list[int]:
        return [1, 1]

    def nvmlDeviceGetViolationStatus(self, handle: str, kind: int) -> Any:
        return SimpleNamespace(violationTime=self.violation if kind == 0 else 0)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    made = Nvml()
    monkeypatch.setitem(__import__("sys").modules, "pynvml", made)
    properties = SimpleNamespace(name="Tesla T4", total_memory=15 << 30, uuid="aa-bb")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    environment._watches.clear()
    return made


def test_a_query_that_is_refused_takes_no_other_with_it(nvml: Nvml) -> None:
    whole = look(GPU)
    assert whole == {
        "driver": "580.1",
        "sm_clock_mhz": 1590,
        "memory_clock_mhz": 5000,
        "max_sm_clock_mhz": 1590,
        "temperature_c": 60,
        "power_w": 70,
        "power_limit_w": 70,
        "free_memory_mib": 12288,
        "slowed_by": [],
        "other_processes": 0,
        "persistence": True,
        "ecc": True,
    }  # it has no MIG
    nvml.refused = {"nvmlDeviceGetPowerUsage", "nvmlDeviceGetEccMode"}
    assert look(GPU) == {name: value for name, value in whole.items() if name not in ("power_w", "ecc")}
    assert look(torch.device("cpu")) == {}


def test_the_record_has_the_card_and_a_fingerprint_of_its_own(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    one = environment.describe(GPU)["machine"]
    assert (one["gpu"], one["gpu_uuid"], one["driver"]) == ("Tesla T4", "aa-bb", "580.1")
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda d: SimpleNamespace(name="Tesla T4", total_memory=15 << 30, uuid="x")
    )
    assert environment.describe(GPU)["machine"]["fingerprint"] != one["fingerprint"]
    assert (uuid_of(GPU), uuid_of(torch.device("cpu"))) == ("x", "cpu")


def test_it_looks_every_few_seconds_and_only_when_asked(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(environment.time, "monotonic", lambda: now[0])
    seen = watch(GPU, anew=True)
    assert watch(GPU) is seen
    for _ in range(20):
        seen.between()
        now[0] += 1.0
    assert len(seen.looks) == 4
    asked = nvml.asked
    now[0] += 60.0
    assert nvml.asked == asked  # no thread
    assert seen.warning() is None
    told = seen.told()
    assert told is not None
    assert told["looks"] == 4


def watched(nvml: Nvml, monkeypatch: pytest.MonkeyPatch, change: Any) -> Watch:
    now = [0.0]
    monkeypatch.setattr(environment.time, "monotonic", lambda: now[0])
    seen = Watch(GPU)
    for i in range(10):
        change(i)
        seen.between()
        now[0] += 10.0
    return seen


def test_a_throttled_card_is_marked(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(i: int) -> None:
        nvml.bits, nvml.clock = (0x24, 990) if i > 5 else (1, 1590)

    seen = watched(nvml, monkeypatch, change)
    told = seen.told()
    assert told is not None
    assert told["slowed_by"] == {"its power cap": 4, "its temperature (software)": 4}
    assert told["sm_clock_mhz"] == [990, 1590]
    assert seen.warning() == (
        "The GPU was slowed down by its power cap and its temperature (software), 990 of 1590 MHz at the least: its "
        "times are those of a throttled card."
    )


def test_what_happened_between_two_looks_is_counted_by_the_driver(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(i: int) -> None:
        nvml.violation += 2_000_000_000 if i else 5_000_000_000  # before the first look, and 2 of each 10 seconds

    seen = watched(nvml, monkeypatch, change)
    assert (seen.told() or {})["slowed_seconds"]["power"] == 23.0
    assert (seen.warning() or "").startswith("The GPU was slowed down by its power limit")


def test_a_shared_card_is_marked(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(i: int) -> None:
        nvml.pids = [7, 8, 9] if i == 4 else [7]

    seen = watched(nvml, monkeypatch, change)
    assert seen.warning() == "The GPU was shared with 2 other process(es): times are disturbed."
    sessions = Sessions(None, None)  # type: ignore[arg-type]
    sessions.warnings += [seen.warning() or ""] * 2
    assert sessions.disturbed("The machine is busy.")["busy"] == f"The machine is busy. {seen.warning()}"


def test_on_a_cpu_there_is_nothing_to_see() -> None:
    seen = Watch(torch.device("cpu"))
    seen.between()
    assert (seen.told(), seen.warning()) == (None, None)
    assert Sessions(None, None).disturbed(None) == {"busy": None}  # type: ignore[arg-type]


def test_what_is_ours_and_idle_is_nobody_else(nvml: Nvml) -> None:
    nvml.pids = [7, 8]
    for idle, expected in ((0, 1), (1, 0)):
        seen = Watch(GPU, idle)
        seen.between()
        assert (seen.told() or {})["other_processes"] == expected
