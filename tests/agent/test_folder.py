#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Where the agent's socket is when others have taken the folder's name, and in a user namespace. TAP.

usage: test_folder.py TOOL TARGET LIBRARIES ONE_FOLDER

TARGET has nothing of Shunt. LIBRARIES: the folder src of the build. Control: ONE_FOLDER, an agent that tries one name.
In a mount namespace with a /tmp of its own, which root may make.
"""
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys

from agent_client import HAS_ATTACH, NO_ATTACH, run, socket_path, tap, wait_until

TOOL, TARGET, LIBRARIES, ONE_FOLDER = map(os.path.abspath, sys.argv[1:5])
AGENT = LIBRARIES + "/agent/libshunt-agent.so.0"
TMP = pathlib.Path("/tmp")
OTHER = 65534  # a user
USER = 12345
check = tap.check


@contextlib.contextmanager
def process(*before, agent=None, **options):
    env = {**os.environ, "SHUNT_AGENT": "1", "LD_PRELOAD": agent} if agent else os.environ
    p = subprocess.Popen([*before, TARGET], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, env=env, **options)
    try:
        p.stdin.write(b"x")
        p.stdin.flush()
        p.stdout.read(1)  # it runs
        yield p.pid
    finally:
        p.kill()
        p.wait()


def clear():
    for entry in TMP.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def folder_of(path):
    path.mkdir(0o700)
    os.chown(path, OTHER, OTHER)


def taken(what, take):
    """Somebody has taken the first name; then all that can be known."""
    for names in ["shunt-0"], ["shunt-0", *(f"shunt-0-{i}" for i in range(1, 8))]:
        clear()
        for name in names:
            take(TMP / name)
        with process(agent=AGENT) as pid:
            path = socket_path(pid) or ""
            out = run(TOOL, "stats", pid)
            check(out.returncode == 0 and os.path.dirname(path)[5:] not in names and
                  os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700,
                  f"{what} as {len(names)} names: it has another", (out, path))
            refused = subprocess.run([TOOL, "stats", str(pid)], user=OTHER, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True, check=False)
            check(refused.returncode != 0, f"{what} as {len(names)} names: another user is kept out", refused)
            run(TOOL, "detach", pid)
        if len(names) > 1:
            check(not os.path.exists(os.path.dirname(path)), f"{what}: a folder of its own goes with it", path)
        check(not any(any(p.iterdir()) for p in map(TMP.joinpath, names) if p.is_dir()), f"{what}: nothing is made there")
    clear()
    take(TMP / "shunt-0")
    with process(agent=ONE_FOLDER) as pid:
        check(run(TOOL, "stats", pid).returncode == 1, f"control: {what}, and one name: there is no agent")


def link(path):
    (TMP / "target").mkdir(0o700, exist_ok=True)
    path.symlink_to(TMP / "target")


def namespace():
    clear()
    (TMP / "shunt-0").mkdir(0o700)  # root's of here
    with process("unshare", "-U", "-r", user=USER) as pid:
        if not wait_until(lambda: os.path.realpath(f"/proc/{pid}/exe") == os.path.realpath(TARGET)):
            tap.skip("a user namespace", "it cannot be made")
            return
        for words in (["attach", pid], ["stats", pid], ["trace", "-p", pid, "--for", "1ms", "-o", "/tmp/out"], ["detach", pid]):
            out = run(TOOL, *words)
            check(out.returncode == 0 or "none of its functions" in out.stderr,
                  f"the root of a user namespace: {words[0]}", out)


def inside():
    print("TAP version 13")
    taken("another user's folder", folder_of)
    taken("a link to a folder", link)
    taken("a file", lambda path: path.write_text(""))
    if HAS_ATTACH:
        namespace()
    else:
        tap.skip("the root of a user namespace", NO_ATTACH)
    sys.exit(tap.end())


if len(sys.argv) > 5:
    inside()
mounts = "mount -t tmpfs -o mode=1777 none /tmp && { [ ! -d /run/user ] || mount -t tmpfs none /run/user; }"
may = ["unshare", "-m", "--propagation", "private", "sh", "-c"]
if any(p.startswith("/tmp/") for p in (TOOL, TARGET, LIBRARIES)) or os.geteuid() or not shutil.which("unshare") or \
        subprocess.run([*may, mounts], check=False, stderr=subprocess.DEVNULL).returncode:
    print("1..0 # SKIP no /tmp of its own can be had")
    sys.exit(0)
sys.exit(subprocess.run([*may, mounts + ' && exec "$@"', "sh", sys.executable, os.path.abspath(sys.argv[0]), TOOL, TARGET,
                         LIBRARIES, ONE_FOLDER, "inside"], check=False).returncode)
