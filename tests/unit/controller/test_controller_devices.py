"""What drivers tell of devices: NVML through a fake of its module, and simulated ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from fake_nvml import GIB, NOBODY, OWN_SESSION, Card, FakeNvml
from stoker.controller import nvml
from stoker.controller.device_watch import DeviceWatch
from stoker.controller.devices import check_spec, look, open_driver
from stoker.controller.happenings import DevicesSeen
from stoker.controller.nvml import Nvml
from stoker.controller.simulated import Simulated, simulated_devices
from stoker.nouns.device import STRANGER, Device, DeviceKind, DeviceLost, DevicesUnknown, DeviceUse
from stoker.nouns.errors import BadRequest
from stoker.nouns.home import Home

Library = Callable[..., FakeNvml]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    def install(*cards: Card) -> FakeNvml:
        fake = FakeNvml(*cards)
        monkeypatch.setattr(nvml, "pynvml", fake)
        return fake

    return install


def ids(driver: Any) -> list[str]:
    return [device.id for device in driver.list()]


def split_card() -> Card:
    instances = [Card(f"MIG-{n}", 10 * GIB, 0, name="H100 MIG 1g.10gb", busy=None) for n in "abc"]
    return Card("GPU-bbbb", instances=[instances[0], None, instances[1], instances[2]])


# The spec


@pytest.mark.parametrize("spec", ["gpu", "sim:", "sim:2", "sim:2xlots", "sim:x16GiB"])
def test_a_device_spec_that_means_nothing_is_refused(spec: str) -> None:
    with pytest.raises(BadRequest, match="devices"):
        check_spec(spec)


def test_a_home_on_the_cpu_has_no_devices(tmp_path: Path) -> None:
    assert look(open_driver("cpu", Home(tmp_path))) == ()


# NVML


def test_a_card_tells_what_it_is_less_what_the_driver_keeps(library: Library) -> None:
    library(Card("GPU-aaaa", total=80 * GIB, reserved=GIB), Card("GPU-bbbb"))
    first, second = Nvml(None).list()
    assert first == Device("GPU-aaaa", DeviceKind.CUDA, 79 * GIB, "NVIDIA H100", (9, 0))
    assert second.id == "GPU-bbbb"


def test_an_old_driver_does_not_tell_what_it_keeps(library: Library) -> None:
    library(Card("GPU-aaaa", total=80 * GIB)).old_driver = True
    assert [device.total_bytes for device in Nvml(None).list()] == [80 * GIB]


def test_the_instances_of_a_card_in_mig_mode_are_devices_and_the_card_is_none(
    library: Library,
) -> None:
    library(Card("GPU-aaaa"), split_card())
    driver = Nvml(None)
    devices = driver.list()
    assert [d.id for d in devices] == ["GPU-aaaa", "MIG-a", "MIG-b", "MIG-c"]
    mig = Device("MIG-a", DeviceKind.MIG, 10 * GIB, "H100 MIG 1g.10gb", (9, 0), "GPU-bbbb")
    assert devices[1] == mig
    assert driver.use("MIG-a").utilisation is None


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        (None, ["GPU-aaaa", "MIG-a", "MIG-b", "MIG-c"]),
        ("0", ["GPU-aaaa"]),
        ("1, 0", ["MIG-a", "MIG-b", "MIG-c", "GPU-aaaa"]),
        ("GPU-aaaa", ["GPU-aaaa"]),
        ("GPU-a", ["GPU-aaaa"]),
        ("MIG-b", ["MIG-b"]),
        ("MIG-c,0", ["MIG-c", "GPU-aaaa"]),
        ("0,7,1", ["GPU-aaaa"]),  # CUDA stops at the first that names nothing
        ("GPU-", []),  # which of the two?
        ("-1", []),
        ("", []),
    ],
)
def test_only_visible_devices_are_used(
    library: Library, shown: str | None, found: list[str]
) -> None:
    library(Card("GPU-aaaa"), split_card())
    assert ids(Nvml(shown)) == found


def test_a_machine_without_the_library_has_no_cards(library: Library) -> None:
    library().init_fails = pynvml.NVML_ERROR_LIBRARY_NOT_FOUND
    assert Nvml(None).list() == ()


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_TIMEOUT])
def test_a_driver_that_does_not_answer_is_our_error_with_its_own_as_the_cause(
    library: Library, code: int
) -> None:
    library(Card("GPU-aaaa")).init_fails = code
    with pytest.raises(DevicesUnknown, match="NVIDIA driver") as caught:
        Nvml(None).list()
    assert isinstance(caught.value.__cause__, pynvml.NVMLError)


def test_a_card_that_may_not_be_looked_at_is_not_used_and_the_others_are(library: Library) -> None:
    library(Card("GPU-aaaa", fails=pynvml.NVML_ERROR_NO_PERMISSION), Card("GPU-bbbb"))
    assert ids(Nvml(None)) == ["GPU-bbbb"]


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_UNKNOWN])
def test_a_lost_card_is_missing_and_returns_once_the_library_has_begun_anew(
    library: Library, code: int
) -> None:
    lost = Card("GPU-aaaa")
    fake = library(lost, Card("GPU-bbbb"))
    driver = Nvml("0,1")
    assert [seen.device.id for seen in look(driver)] == ["GPU-aaaa", "GPU-bbbb"]
    lost.fails = code
    with pytest.raises(DeviceLost, match="GPU-aaaa"):
        driver.use("GPU-aaaa")
    assert [seen.device.id for seen in look(driver)] == ["GPU-bbbb"]
    lost.fails, fake.hidden_until_init = 0, {"GPU-aaaa"}
    assert [seen.device.id for seen in look(driver)] == ["GPU-aaaa", "GPU-bbbb"]
    begun = fake.inits
    look(driver)
    assert fake.inits == begun


def test_a_card_that_falls_off_between_the_list_and_its_use_is_left_out(library: Library) -> None:
    card = Card("GPU-aaaa")
    library(card, Card("GPU-bbbb"))

    class Falls(Nvml):
        def use(self, device: str) -> DeviceUse:
            card.fails = pynvml.NVML_ERROR_GPU_IS_LOST
            return super().use(device)

    assert [seen.device.id for seen in look(Falls(None))] == ["GPU-bbbb"]


def test_a_call_that_times_out_does_not_lose_the_card(library: Library) -> None:
    card = Card("GPU-aaaa")
    library(card)
    driver = Nvml(None)
    driver.list()
    card.fails = pynvml.NVML_ERROR_TIMEOUT
    with pytest.raises(DevicesUnknown):
        look(driver)


def test_bytes_are_told_by_session_and_what_nobody_here_runs_is_nobodys(library: Library) -> None:
    held = {os.getpid(): 3 * GIB, NOBODY: 2 * GIB}
    library(Card("GPU-a", used=6 * GIB, processes=held, drawing={os.getpid(): 3 * GIB}, busy=50))
    driver = Nvml(None)
    driver.list()
    assert driver.use("GPU-a") == DeviceUse(6 * GIB, ((OWN_SESSION, 3 * GIB),), 0.5)


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_NO_PERMISSION, None])
def test_processes_that_are_not_told_leave_the_bytes_of_all(
    library: Library, code: int | None
) -> None:
    fake = library(Card("GPU-a", used=6 * GIB, processes={os.getpid(): None}))
    fake.processes_fail = code or 0
    driver = Nvml(None)
    driver.list()
    assert driver.use("GPU-a") == DeviceUse(6 * GIB, (), 0.0)


# Simulated ones


def rehearse(tmp_path: Path, **told: Any) -> Simulated:
    script = tmp_path / "sim-devices.json"
    script.write_text(json.dumps({name.replace("_", "-"): what for name, what in told.items()}))
    return Simulated(simulated_devices("sim:2x16GiB"), script)


def test_simulated_devices_are_there_and_empty_without_a_script(tmp_path: Path) -> None:
    seen = look(open_driver("sim:2x16GiB", Home(tmp_path)))
    assert [one.device.id for one in seen] == ["SIM-0", "SIM-1"]
    assert {one.use for one in seen} == {DeviceUse()}


def test_a_script_gives_a_simulated_device_foreign_bytes_and_loses_another(tmp_path: Path) -> None:
    driver = rehearse(tmp_path, SIM_0={"foreign": "2GiB", "utilisation": 0.5}, SIM_1={"lost": True})
    (seen,) = look(driver)
    assert seen.use == DeviceUse(2 * GIB, ((STRANGER, 2 * GIB),), 0.5)
    with pytest.raises(DeviceLost):
        driver.use("SIM-1")


@pytest.mark.parametrize(
    ("told", "wrong"),
    [
        ({"SIM_0": {"foreign": "lots"}}, "must be a size"),
        ({"SIM_0": {"stolen": 1}}, "stolen"),
        ({"SIM_9": {}}, "names SIM-9; the devices are SIM-0, SIM-1"),
    ],
)
def test_a_script_that_means_nothing_changes_nothing_and_says_where(
    tmp_path: Path, told: dict[str, Any], wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    watch = DeviceWatch(rehearse(tmp_path, **told), lambda seen: None)
    assert (watch.look(), watch.look()) == (None, None)
    (line,) = caplog.messages
    assert wrong in line
    assert str(tmp_path / "sim-devices.json") in line


# The watch


async def test_the_watch_reports_to_its_loop_until_it_is_cancelled(tmp_path: Path) -> None:
    import asyncio

    seen: asyncio.Queue[DevicesSeen] = asyncio.Queue()
    watch = DeviceWatch(rehearse(tmp_path), seen.put_nowait, every_s=0.001)
    watching = asyncio.create_task(watch.run())
    assert [one.device.id for one in (await seen.get()).seen] == ["SIM-0", "SIM-1"]
    await seen.get()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_a_driver_that_hangs_at_the_first_look_holds_nobody_up() -> None:
    """A controller waited for it, and what needs no device was not served either."""
    import asyncio
    import threading

    answer, seen = threading.Event(), asyncio.Queue[DevicesSeen]()

    class Hangs:
        def list(self) -> tuple[Device, ...]:
            answer.wait(60)
            return ()

        def use(self, device: str) -> DeviceUse:
            raise NotImplementedError

    watch = DeviceWatch(Hangs(), seen.put_nowait, every_s=0.001)
    assert await watch.first(limit_s=0.01) is None
    watching = asyncio.create_task(watch.run())
    answer.set()
    async with asyncio.timeout(20):
        assert (await seen.get()).seen == ()
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_the_first_look_is_waited_for_and_is_not_told_twice(tmp_path: Path) -> None:
    import asyncio

    reports: list[DevicesSeen] = []
    watch = DeviceWatch(rehearse(tmp_path), reports.append, every_s=60)
    seen = await watch.first()
    assert seen is not None
    assert [one.device.id for one in seen.seen] == ["SIM-0", "SIM-1"]
    watching = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert reports == []


async def test_a_driver_that_hangs_holds_nobody_up() -> None:
    import asyncio
    import threading

    asked, answer = threading.Event(), threading.Event()

    class Hangs:
        def list(self) -> tuple[Device, ...]:
            asked.set()
            answer.wait(60)
            return ()

        def use(self, device: str) -> DeviceUse:
            raise NotImplementedError

    reports: list[DevicesSeen] = []
    watching = asyncio.create_task(DeviceWatch(Hangs(), reports.append, every_s=0.001).run())
    assert await asyncio.to_thread(asked.wait, 60)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    answer.set()
    assert reports == []
