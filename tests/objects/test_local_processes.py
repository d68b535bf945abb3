"""Processes that use one local folder side by side do each other no harm."""

import os

import pytest

from coatcheck.objects import files
from coatcheck.types import IfMatch
from tests.objects.local_uses import get, keys, printed, run, start_python, temporary_files

CREATES = """
name = sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(20):
    try:
        run(store.put(f"race/{number}", name.encode() * 1000, condition=IfAbsent()))
        print(number)
    except Conflict:
        pass
"""


def test_of_sixteen_processes_that_create_one_wins(store, root):
    names = "abcdefghijklmnop"
    creators = {name: start_python(CREATES, root, name) for name in names}
    for creator in creators.values():
        assert creator.stdout.readline() == "ready\n"
    for creator in creators.values():
        creator.stdin.write("go\n")
        creator.stdin.flush()
    winners = {}
    for name, creator in creators.items():
        for number in printed(creator):
            assert number not in winners, "two were told that they won"
            winners[number] = name
    assert len(winners) == 20
    for number, name in winners.items():
        assert run(store.get(f"race/{number}", limit_bytes=1000)).body == name.encode() * 1000
    assert temporary_files(root) == set()


COUNTS = """
for _ in range(25):
    while True:
        seen = run(store.get("count", limit_bytes=10))
        try:
            run(store.put("count", b"%d" % (int(seen.body) + 1), condition=IfMatch(seen.etag)))
            break
        except Conflict:
            continue
"""


def test_changes_under_a_condition_are_not_lost_between_processes(store, root):
    run(store.put("count", b"0"))
    for counter in [start_python(COUNTS, root) for _ in range(4)]:
        assert printed(counter) == []
    assert get(store, "count") == b"100"


COMES_AND_GOES = """
for number in range(50):
    key = f"shared/{number % 3}/{sys.argv[2]}"
    run(store.put(key, key.encode(), condition=IfAbsent() if number % 2 else None))
    assert run(store.get(key, limit_bytes=100)).body == key.encode()
    assert run(store.delete_many([key])) == []
"""


def test_puts_and_deletes_in_one_folder_do_not_disturb_each_other(store, root):
    for process in [start_python(COMES_AND_GOES, root, name) for name in "abcd"]:
        assert printed(process) == []
    assert keys(store) == []
    assert [path.name for path in root.iterdir()] == [".coatcheck-tmp"]


@pytest.mark.timeout(30)
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # to fork among threads
def test_a_child_forked_during_a_write_does_not_keep_its_lock(store, monkeypatch):
    place = files._place
    waits, goes = os.pipe()
    children = []

    def fork_then_place(*given):
        child = os.fork()
        if child == 0:
            os.close(goes)
            os.read(waits, 1)
            os._exit(0)
        children.append(child)
        place(*given)

    with monkeypatch.context() as forking:
        forking.setattr(files, "_place", fork_then_place)
        etag = run(store.put("key", b"before the fork")).etag
    try:
        run(store.put("key", b"after the fork", condition=IfMatch(etag)))
    finally:
        os.close(goes)
        os.close(waits)
        for child in children:
            os.waitpid(child, 0)
    assert get(store, "key") == b"after the fork"
