"""Programs of this folder print one line for each thing that they saw."""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

CONNECTIONS = 4
POLL_SECONDS = 0.05


def run_at_once(use):
    """Calls `use(meet)` in as many threads as CONNECTIONS; each may wait for the others with `meet()`."""
    barrier = Barrier(CONNECTIONS)
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        return [done.result() for done in [threads.submit(use, barrier.wait) for _ in range(CONNECTIONS)]]


def wait_until(is_so):
    while not is_so():
        time.sleep(POLL_SECONDS)


def digest(texts):
    hashed = hashlib.sha256()
    for text in texts:
        hashed.update(text.encode())
    return hashed.hexdigest()
