"""Worker processes: bounded, in order, and a death costs the item that died, no other."""

import os
import signal
import subprocess
import sys
import time
from itertools import count, islice

import pytest

from fusion.compute import process_pool
from tests.builders.images import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills with signals")


def double(task):
    return [2 * item for item in task]


def die_of_seven(task):
    if 7 in task:
        os.kill(os.getpid(), signal.SIGKILL)
    return double(task)


def tasks(n, size=2):
    return [list(range(at, at + size)) for at in range(0, n, size)]


def lost(item):
    return f"lost {item}"


def never():
    return False


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_tasks(processes):
    found = list(process_pool.run(double, tasks(40), processes, lost, never))
    assert found == [double(task) for task in tasks(40)]


def test_an_item_that_kills_its_worker_is_lost_alone():
    found = [result for results in process_pool.run(die_of_seven, tasks(40), 2, lost, never) for result in results]
    assert found == [2 * item if item != 7 else "lost 7" for item in range(40)]


def test_joblib_works_beside_it():
    from joblib import Parallel, delayed

    list(process_pool.run(double, tasks(8), 2, lost, never))
    assert Parallel(n_jobs=2)(delayed(double)([at]) for at in range(2)) == [[0], [2]]
    assert list(process_pool.run(double, tasks(8), 2, lost, never)) == [double(task) for task in tasks(8)]


@pytest.mark.parametrize("processes", [1, 2])
def test_tasks_are_taken_no_faster_than_results(processes):
    taken = 0

    def endless():
        nonlocal taken
        for at in count():
            taken += 1
            yield [at]

    results = process_pool.run(double, endless(), processes, lost, never)
    assert list(islice(results, 20)) == [[2 * at] for at in range(20)]
    assert taken <= 20 + process_pool._AHEAD * processes
    results.close()


@pytest.mark.parametrize("processes", [1, 2])
def test_when_asked_to_stop_what_is_at_work_is_finished(processes):
    done = []
    for results in process_pool.run(double, tasks(100), processes, lost, lambda: len(done) >= 5):
        done.append(results)
    assert done == [double(task) for task in tasks(100)][: len(done)]
    assert 5 <= len(done) <= 5 + process_pool._AHEAD * processes


CHILD_OF_A_KILLED_PARENT = """
import os, sys, time
from fusion.compute import process_pool
def tell(task):
    time.sleep(0.05)
    return [os.getpid() for _ in task]
for pids in process_pool.run(tell, ([at] for at in range(10_000)), 2, None, lambda: False):
    print(pids[0], flush=True)
"""


def test_workers_leave_when_their_parent_is_killed():
    parent = subprocess.Popen(
        [sys.executable, "-c", CHILD_OF_A_KILLED_PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pids: set[int] = set()
    for _ in range(400):  # 20 seconds of work for one: on a busy machine the second worker may start late
        pids |= {int(parent.stdout.readline())} - {parent.pid}
        if len(pids) == 2:
            break
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in pids if is_alive(pid)]


def is_alive(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123  # a zombie that nobody waits for is dead
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
