"""What the local store leaves behind when its process, disk or neighbours fail it."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from coatcheck.errors import (
    ConfigError,
    Forbidden,
    TooLarge,
    Unavailable,
    Unsupported,
)
from coatcheck.objects.local import LocalObjects
from coatcheck.runtime.blocking import BLOCKING
from coatcheck.types import IfAbsent
from tests.objects.local_uses import (
    PREAMBLE,
    get,
    keys,
    printed,
    run,
    start_python,
    temporary_files,
)

MIB = 1024 * 1024

# Crashes

DIES = """
import signal

step, call, size, condition = sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
real = getattr(os, step)

def die(*given, **named):
    global call
    call -= 1
    if call:
        return real(*given, **named)
    if step == "write":
        real(given[0], given[1][: size // 2])
    os.kill(os.getpid(), signal.SIGKILL)

setattr(os, step, die)
run(store.put("folder/key", b"n" * size, condition=IfAbsent() if condition == "create" else None))
"""


@pytest.mark.parametrize(
    ("condition", "step", "call", "size_bytes", "is_done"),
    [
        ("replace", "write", 1, 64 * MIB, False),
        ("replace", "utime", 1, MIB, False),
        ("replace", "fsync", 1, MIB, False),
        ("replace", "replace", 1, MIB, False),
        ("replace", "fsync", 2, MIB, True),
        ("replace", "unlink", 1, MIB, True),
        ("create", "write", 1, 64 * MIB, False),
        ("create", "link", 1, MIB, False),
        ("create", "fsync", 2, MIB, True),
        ("create", "unlink", 1, MIB, True),
    ],
)
def test_a_killed_put_is_done_or_not_done(store, root, condition, step, call, size_bytes, is_done):
    run(store.put("folder/other", b"other"))
    if condition == "replace":
        run(store.put("folder/key", b"old"))
    killed = start_python(DIES, root, step, call, size_bytes, condition)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    expected = {"folder/other"}
    if is_done:
        assert run(store.get("folder/key", limit_bytes=size_bytes)).body == b"n" * size_bytes
        expected.add("folder/key")
    elif condition == "replace":
        assert get(store, "folder/key") == b"old"
        expected.add("folder/key")
    assert set(keys(store)) == expected
    assert len(temporary_files(root)) <= 1
    run(store.put("folder/key", b"after the crash"))
    assert get(store, "folder/key") == b"after the crash"


def test_a_body_is_synced_before_it_has_its_name_and_the_folder_after(store, root, monkeypatch):
    run(store.put("folder/first", b""))
    happened = []
    fsync = os.fsync

    def sync(file):
        fsync(file)
        is_folder = stat.S_ISDIR(os.fstat(file).st_mode)
        happened.append("sync folder" if is_folder else "sync file")

    monkeypatch.setattr(os, "fsync", sync)
    for call in ("replace", "link", "unlink"):
        real = getattr(os, call)

        def done(*names, real=real, call=call, **folders):
            happened.append(call)
            return real(*names, **folders)

        monkeypatch.setattr(os, call, done)
    run(store.put("folder/key", b"body"))
    assert happened[:3] == ["sync file", "replace", "sync folder"]
    happened.clear()
    run(store.put("folder/new", b"body", condition=IfAbsent()))
    assert happened[:3] == ["sync file", "link", "sync folder"]
    happened.clear()
    run(store.copy("folder/key", "folder/copy"))
    assert happened[:3] == ["sync file", "replace", "sync folder"]
    happened.clear()
    run(store.delete_many(["folder/key", "folder/copy"]))
    assert happened == ["unlink", "unlink", "sync folder"]
    happened.clear()
    run(store.put("new/folders/key", b"body"))
    assert happened[:5] == ["sync file", *["sync folder"] * 2, "replace", "sync folder"]


# Full and failing disks


@pytest.mark.parametrize(
    ("number", "kind", "is_transient"),
    [
        (errno.ENOSPC, Unavailable, True),
        (errno.EDQUOT, Unavailable, True),
        (errno.EIO, Unavailable, True),
        (errno.EMFILE, Unavailable, True),
        (errno.EFBIG, TooLarge, False),
        (errno.EROFS, Forbidden, False),
        (errno.EACCES, Forbidden, False),
        (errno.EPERM, Forbidden, False),
        (errno.EXDEV, ConfigError, False),
    ],
)
@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
def test_a_failed_system_call_is_explained_and_leaves_nothing(
    store, root, monkeypatch, call, number, kind, is_transient
):
    run(store.put("key", b"old"))

    def fail(*given, **named):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as failing:
        failing.setattr(f"coatcheck.objects.files.os.{call}", fail)
        with pytest.raises(kind) as caught:
            run(store.put("key", b"new"))
    assert caught.value.transient is is_transient
    assert caught.value.remedy
    assert "key=key" in str(caught.value)
    assert errno.errorcode[number] in str(caught.value)
    assert get(store, "key") == b"old"
    assert keys(store) == ["key"]
    assert temporary_files(root) == set()


def test_a_failure_after_the_object_has_its_name_is_reported(store, root, monkeypatch):
    run(store.put("key", b"old"))
    fsync = os.fsync

    def fail_for_folders(file):
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(errno.EIO, "")
        fsync(file)

    monkeypatch.setattr(os, "fsync", fail_for_folders)
    with pytest.raises(Unavailable):
        run(store.put("key", b"new"))
    with pytest.raises(Unavailable):
        run(store.delete("key"))


def test_deletes_that_cannot_be_made_durable_have_failed(store, monkeypatch):
    for key in ("a/1", "a/2", "b"):
        run(store.put(key, b""))

    def fail(file):
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(os, "fsync", fail)
    failures = run(store.delete_many(["a/1", "a/2", "b"]))
    assert [(failure.key, failure.code) for failure in failures] == [
        ("a/1", "unavailable"),
        ("a/2", "unavailable"),
        ("b", "unavailable"),
    ]


def test_a_file_system_without_hard_links_is_named(store, root, monkeypatch):
    def fail(*names, **folders):
        raise PermissionError(errno.EPERM, "")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(Unsupported, match="hard links"):
        run(store.put("key", b"body", condition=IfAbsent()))
    run(store.put("key", b"body"))
    assert keys(store) == ["key"]
    assert temporary_files(root) == set()


LIMITED = """
import resource

resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    run(store.put("key", bytes(2**21)))
except TooLarge as error:
    print(error)
run(store.put("small", bytes(2**20)))
"""


def test_a_file_size_limit_is_reported(store, root):
    run(store.put("key", b"old"))
    [message] = printed(start_python(LIMITED, root))
    assert "EFBIG" in message
    assert get(store, "key") == b"old"
    assert keys(store) == ["key", "small"]
    assert temporary_files(root) == set()


DENIED = """
os.seteuid(int(sys.argv[2]))
for use in (store.get("closed/key", limit_bytes=9), store.put("closed/key", b""),
            store.delete("closed/key"), store.put("new", b"")):
    try:
        run(use)
    except Forbidden as error:
        print(error.code)
"""


def test_missing_permissions_are_forbidden():
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    # Not in pytest's own folder, into which nobody but its owner may look.
    with tempfile.TemporaryDirectory() as outer:
        root = Path(outer) / "root"
        store = LocalObjects(root, BLOCKING)
        run(store.put("closed/key", b"body"))
        for folder in (Path(outer), root):
            folder.chmod(0o755)
        assert printed(start_python(DENIED, root, 65534)) == ["forbidden"] * 4
        assert get(store, "closed/key") == b"body"
        assert keys(store) == ["closed/key"]


ON_A_SMALL_DISK = """
import subprocess

run(store.put("key", b"old"))
try:
    run(store.put("key", bytes(2**21)))
except Unavailable as error:
    print(error)
assert run(store.get("key", limit_bytes=9)).body == b"old"
assert not [name for name in os.listdir(sys.argv[1] + "/.coatcheck-tmp") if "lock" not in name]
run(store.put("key", bytes(2**19)))
subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
for use in (store.put("key", b""), store.delete("key")):
    try:
        run(use)
    except Forbidden as error:
        print(error)
assert run(store.get("key", limit_bytes=2**20)).body == bytes(2**19)
"""


def test_a_full_and_a_read_only_disk_are_reported(tmp_path):
    namespace = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
    if (
        shutil.which("unshare") is None
        or subprocess.run([*namespace, mount, tmp_path, "true"], capture_output=True).returncode
    ):
        pytest.skip("no private mounts here")
    script = [sys.executable, "-c", PREAMBLE + ON_A_SMALL_DISK, tmp_path]
    full, *read_only = subprocess.run(
        [*namespace, mount, tmp_path, *script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert "ENOSPC" in full
    assert len(read_only) == 2
    assert all("EROFS" in line for line in read_only)
