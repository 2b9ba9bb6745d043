"""One measurement at a time on a device: refused with the holder's name, free again however the
holder ends."""

import json
import os
import signal
import stat
import subprocess
import sys

import pytest

from moebook import devices
from moebook.devices import lock
from moebook.devices.device import Device

CPU = Device("cpu", "a CPU", 1, 10)
PAIR = Device("h200", "NVIDIA H200", 2, 10, uuids=("GPU-a", "GPU-b"))
HOLDS = """
import sys, time
from moebook.devices import lock
from moebook.devices.device import Device
with lock.held(Device(**{device}), "outputs/h200/01_x"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MOEBOOK_LOCKS", str(tmp_path / "locks"))
    return tmp_path / "locks"


@pytest.fixture
def holder():
    started = []

    def hold(device: Device) -> subprocess.Popen:
        program = HOLDS.format(device=dict(vars(device)))
        started.append(
            subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        )
        assert started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_another_measurement_is_refused_with_the_holders_name(holder):
    other = holder(PAIR)
    with pytest.raises(devices.DeviceInUse) as error, lock.held(PAIR, "here"):
        pass
    told = str(error.value)
    holder_said = f"process {other.pid}, measuring outputs/h200/01_x since "
    assert told.startswith(f"device NVIDIA H200 (GPU-a) is in use by {holder_said}")
    assert told.endswith("; wait for it or choose another card with CUDA_VISIBLE_DEVICES")


def test_on_a_cpu_there_is_no_other_card_to_choose(holder):
    holder(CPU)
    with pytest.raises(
        devices.DeviceInUse, match=r"device a CPU is in use by process \d+.*; wait for it$"
    ):
        devices.DeviceLock().take(CPU, "x")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_holder_that_dies_leaves_no_lock(holder, how):
    other = holder(PAIR)
    os.kill(other.pid, how)
    other.wait()
    with lock.held(PAIR, "x", 2):
        pass


def test_other_cards_and_the_cpu_are_free(holder):
    holder(PAIR)
    with (
        lock.held(CPU, "x"),
        lock.held(Device("h200", "NVIDIA H200", 1, 10, uuids=("GPU-b",)), "x"),
    ):
        pass


def test_of_several_cards_none_is_kept_where_one_is_taken(holder):
    holder(Device("h200", "NVIDIA H200", 1, 10, uuids=("GPU-b",)))
    mine = devices.DeviceLock()
    mine.take(PAIR, "x")
    with pytest.raises(devices.DeviceInUse, match="GPU-b"):
        mine.take(PAIR, "x", 2)
    assert set(mine.handles) == {"GPU-a"}
    mine.release()


def test_taken_again_it_takes_more_cards_and_says_what_is_measured_now(own_folder):
    mine = devices.DeviceLock()
    mine.take(PAIR, "first")
    mine.take(PAIR, "second", 2)
    said = [json.loads((own_folder / name).read_text()) for name in ("GPU-a", "GPU-b")]
    assert [s["folder"] for s in said] == ["second", "second"] and {s["pid"] for s in said} == {
        os.getpid()
    }
    mine.release()
    assert (own_folder / "GPU-a").read_text() == "" and mine.handles == {}
    mine.release()


def test_the_lock_ends_with_its_block_also_after_an_error():
    with pytest.raises(KeyError), lock.held(CPU, "x"):
        raise KeyError
    with lock.held(CPU, "x"):
        pass


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "folder": "x", "since": "noon"}']
)
def test_what_a_lock_says_may_be_unreadable(own_folder, content):
    mine = devices.DeviceLock()
    mine.take(CPU, "x")
    (own_folder / "cpu").write_text(content)
    with pytest.raises(devices.DeviceInUse, match="in use by another measurement; wait"):
        devices.DeviceLock().take(CPU, "y")
    mine.release()


def test_a_lock_of_another_day_has_its_date(own_folder):
    mine = devices.DeviceLock()
    mine.take(CPU, "x")
    (own_folder / "cpu").write_text('{"pid": 7, "folder": "f", "since": "2001-02-03T04:05:06"}')
    with pytest.raises(devices.DeviceInUse, match="process 7, measuring f since 2001-02-03 04:05;"):
        devices.DeviceLock().take(CPU, "y")
    mine.release()


def test_all_users_of_the_machine_share_the_folder(own_folder):
    with lock.held(CPU, "x"):
        assert stat.S_IMODE(own_folder.stat().st_mode) == 0o1777
        assert stat.S_IMODE((own_folder / "cpu").stat().st_mode) == 0o666


def test_without_the_variable_locks_lie_among_temporary_files(monkeypatch, tmp_path):
    monkeypatch.delenv("MOEBOOK_LOCKS")
    monkeypatch.setattr(lock.tempfile, "gettempdir", lambda: str(tmp_path))
    assert lock.folder() == tmp_path / "moebook-locks"


def test_a_folder_that_cannot_be_written_is_told(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MOEBOOK_LOCKS", str(tmp_path / "file" / "locks"))
    with (
        pytest.raises(
            ValueError, match="cannot write the device's lock .*locks/cpu: .*MOEBOOK_LOCKS"
        ),
        lock.held(CPU, "x"),
    ):
        pass


def test_a_link_in_the_folder_is_not_followed(own_folder, tmp_path):
    own_folder.mkdir()
    (tmp_path / "target").write_text("precious")
    (own_folder / "cpu").symlink_to(tmp_path / "target")
    with pytest.raises(ValueError, match="cannot write the device's lock"), lock.held(CPU, "x"):
        pass
    assert (tmp_path / "target").read_text() == "precious"
