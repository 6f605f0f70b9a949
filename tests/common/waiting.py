# SPDX-License-Identifier: MIT
"""Waiting for what comes by itself."""
import time

LIMIT = 120  # s: only what hangs gets there


def wait_until(condition, limit=LIMIT):
    """Whether @condition has become true in time."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False
