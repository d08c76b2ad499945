"""Where an interrupt may be raised: our code and waits, later elsewhere, and always some time.

The programs run as processes of their own, because the handlers belong to a whole process.
"""

import signal
import subprocess
import sys
import threading
import types
from typing import Any

import pytest

from ipfs_mfs import interrupt

pytestmark = pytest.mark.slow

START = """
import os, signal, sys, threading, time, types
from ipfs_mfs import interrupt

def foreign(source):
    "A module of somebody else with these lines."
    module = types.ModuleType("grpc_of_somebody")
    module.__dict__.update(os=os, signal=signal, time=time, threading=threading)
    exec(compile(source, "somebody.py", "exec"), module.__dict__)
    return module

def press():
    os.kill(os.getpid(), signal.SIGINT)
"""


def outcome(source, *, before=None, timeout_s=30):
    process = subprocess.run(
        [sys.executable, "-c", START + source],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        preexec_fn=before,  # sets one handler, takes no lock
        check=False,
    )
    return process.returncode, process.stdout.split(), process.stderr


def test_in_our_own_code_it_is_raised_at_once():
    source = """
interrupt.install()
try:
    press()
    for _ in range(1000): pass
    print("not raised")
except KeyboardInterrupt:
    print("raised")
"""
    assert outcome(source)[:2] == (0, ["raised"])


def test_between_an_open_and_its_with_it_waits_for_a_moment():
    """`with open(...)` would leave a file open. None is no file, so the `with` itself complains."""
    source = """
interrupt.install()
try:
    try:
        with signal.raise_signal(signal.SIGINT): pass
    except TypeError:
        print("entered")
    began = time.monotonic()
    while time.monotonic() - began < 20: pass
    print("not raised")
except KeyboardInterrupt:
    print("raised", time.monotonic() - began < 1)
"""
    assert outcome(source)[:2] == (0, ["entered", "raised", "True"])


def test_a_lock_taken_by_a_library_is_always_given_back():
    source = """
somebody = foreign('''
class Guard:
    def __init__(self):
        self.lock = threading.Lock()
    def __enter__(self):
        self.lock.acquire()
        os.kill(os.getpid(), signal.SIGINT)
        return len("the handler would run at the end of this call")
    def __exit__(self, *_):
        self.lock.release()
def work(guard):
    with guard:
        time.sleep(0.05)
''')
interrupt.install()
guard = somebody.Guard()
for _ in range(20):
    try:
        somebody.work(guard)
        time.sleep(0.5)
        print("not raised")
    except KeyboardInterrupt:
        if guard.lock.locked(): print("kept")
print("end")
"""
    assert outcome(source)[:2] == (0, ["end"])


def test_python_itself_would_leave_that_lock_taken():
    source = """
somebody = foreign('''
class Guard:
    def __enter__(self):
        print("taken")
        os.kill(os.getpid(), signal.SIGINT)
        return len("")
    def __exit__(self, *_):
        print("released")
def work(guard):
    with guard:
        pass
''')
try:
    somebody.work(somebody.Guard())
except KeyboardInterrupt:
    print("interrupted")
"""
    assert outcome(source)[:2] == (0, ["taken", "interrupted"]), "else this module has no reason"


def test_a_wait_for_another_thread_is_interrupted_at_once():
    source = """
interrupt.install()
threading.Timer(0.2, press).start()
began = time.monotonic()
try:
    condition = threading.Condition()
    with condition:
        condition.wait(20)
except KeyboardInterrupt:
    print("raised", time.monotonic() - began < interrupt.POSTPONED_MAX_S)
"""
    assert outcome(source)[:2] == (0, ["raised", "True"])


def test_what_waits_in_unknown_code_is_interrupted_after_a_while():
    source = """
somebody = foreign("def ask(): time.sleep(25)")
interrupt.install()
threading.Timer(0.1, press).start()
began = time.monotonic()
try:
    somebody.ask()
except KeyboardInterrupt:
    print("raised", interrupt.POSTPONED_MAX_S <= time.monotonic() - began < 20)
"""
    assert outcome(source)[:2] == (0, ["raised", "True"])


def test_a_report_of_progress_in_the_midst_of_other_code_raises_it():
    source = """
somebody = foreign('''
def work(report):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
    report()
    print("not raised")
''')
interrupt.install()
try:
    somebody.work(interrupt.check)
except KeyboardInterrupt:
    print("raised")
interrupt.check()
print("once")
"""
    assert outcome(source)[:2] == (0, ["raised", "once"])


@pytest.mark.parametrize("early", [False, True])
def test_a_signal_at_the_end_does_not_change_the_exit_status(early):
    source = f"""
import atexit
somebody = foreign("def press(): os.kill(os.getpid(), signal.SIGINT)")
atexit.register(time.sleep, 0.6)
atexit.register(somebody.press)
interrupt.RETRY_INTERVAL_S = 0.3
interrupt.install()
if {early}: somebody.press()
interrupt.end(5)
"""
    assert outcome(source)[0] == 5


def test_a_clean_up_that_does_not_end_ends_the_process_with_a_line():
    source = """
interrupt.CLEAN_UP_MAX_S = 0.3
interrupt.install()
try:
    press()
    time.sleep(1)
finally:
    threading.Lock().__enter__()
    stuck = threading.Lock()
    stuck.acquire()
    stuck.acquire()
"""
    status, out, err = outcome(source)
    assert (status, out) == (1, [])
    assert err.startswith("ipfs-mfs: interrupted, and cleaning up did not end")


def test_after_an_interrupt_the_end_waits_for_no_thread():
    source = """
interrupt.install()
try:
    threading.Thread(target=time.sleep, args=(25,)).start()
    press()
    time.sleep(20)
except KeyboardInterrupt:
    print("raised")
interrupt.end(7)
"""
    assert outcome(source, timeout_s=15)[:2] == (7, ["raised"])


def test_after_an_interrupt_the_end_waits_for_no_thread_though_nobody_reads_the_output():
    source = """
interrupt.install()
reading, writing = os.pipe()
sys.stdout = os.fdopen(writing, "w", buffering=4096)
os.close(reading)
try:
    threading.Thread(target=time.sleep, args=(25,)).start()
    print("nobody reads this")
    press()
    time.sleep(20)
except KeyboardInterrupt:
    pass
interrupt.end(7)
"""
    status, _, err = outcome(source, timeout_s=15)
    assert (status, err) == (7, "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_that_was_ignored_stays_ignored(name):
    source = f"""
interrupt.install()
os.kill(os.getpid(), signal.{name})
time.sleep(0.05)
print("alive")
"""
    number = getattr(signal, name)
    ignoring = outcome(source, before=lambda: signal.signal(number, signal.SIG_IGN))
    assert ignoring[:2] == (0, ["alive"])


@pytest.mark.parametrize("name", ["ipfs_mfs.importer", "ipfs_mfs", "__main__"])
def test_frames_of_this_package_are_safe(name):
    assert interrupt._is_safe(frame_in(name))


@pytest.mark.parametrize("name", ["grpc._channel", "threading", "blkdev.log", "ipfs_mfs_like", ""])
def test_frames_of_others_are_not_safe(name):
    assert not interrupt._is_safe(frame_in(name))


def test_only_the_wait_of_a_condition_is_safe_in_its_module():
    assert not interrupt._is_safe(frame_in("threading", threading.Condition.__enter__))
    assert not interrupt._is_safe(frame_in("threading", threading.Condition.notify))
    assert interrupt._is_safe(frame_in("threading", threading.Condition.wait))


def frame_in(name: str, function: Any = outcome) -> Any:
    """What a handler needs to see of a frame that begins."""
    return types.SimpleNamespace(f_code=function.__code__, f_lasti=0, f_globals={"__name__": name})
