#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Attached to in other namespaces, the libraries not seen there. TAP.

    test_contained.py SHUNT TARGET
"""

import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "common"))
import attaching  # noqa: E402
from attaching import LIMIT, Target, attach_and_detach, shunt, use_tool  # noqa: E402
from tap import finish, ok, skip  # noqa: E402


def can_unshare(*options):
    return not subprocess.run(["unshare", *options, "true"], stderr=subprocess.DEVNULL,
                              check=False).returncode


def contained(program):
    """The process's own number is another one in there, and libraries of the build are hidden."""
    options = ["--user", "--map-root-user", "--pid", "--mount", "--net", "--fork"]
    if not shutil.which("unshare") or not can_unshare(*options):
        skip("attached in a container", "no namespaces may be made")
        return
    source = pathlib.Path(attaching.TOOL).resolve().parent.parent / "src"
    script = (f'mount -t proc proc /proc && mount -t tmpfs none "{source}" && '
              f'mount -t tmpfs none /run && exec "$0" "$@"')
    target = Target(program, "nanosleep", wrap=["unshare", *options, "sh", "-c", script])
    child = pathlib.Path(f"/proc/{target.pid}/task/{target.pid}/children").read_text().split()
    target.pid = int(child[0]) if child else target.pid
    status, out = shunt("attach", "--timeout", LIMIT / 2, target.pid)
    ok(status == 0, "attached in a container, by descriptors", out)
    maps = "\n".join(target.maps())
    ok("memfd:libshunt-agent.so.0" in maps, "the libraries came by descriptors",
           maps)
    ok(not any("memfd" in name for name in target.names("fd")), "which are closed again")
    status, out = shunt("detach", target.pid)
    ok(status == 0, "detached", out)
    wrong = [w for w in (attach_and_detach(target) for _ in range(3)) if w]
    ok(not wrong, "attached and detached again", wrong)
    ok(target.stop() == 0 and not target.word("wrong"), "it ends as it would have")


use_tool(sys.argv[1])
contained(sys.argv[2])
sys.exit(finish())
