#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Programs that a traced one executes with an environment of their own, in which the recorder is not: they are recorded all
the same, or it is said that they are not, and why.

    images.py SHUNT IMAGES.C FOLDER

*Control:* by a system call of its own, which the recorder does not see, the new program is not recorded. What the recorder and
the tool do for it has mutants (handed-*, image-*). TAP.
"""
import glob
import json
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, "common"))
from tap import finish, ok, skip

SHUNT, SOURCE, FOLDER = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2], pathlib.Path(sys.argv[3]).resolve()
PROGRAM, STATIC, FILE = FOLDER / "images", FOLDER / "static", FOLDER / "sessions/x.trace"
LEFT = "was executed and is not recorded"
TAKEN = "its environment has SHUNT_TRACE_FILE, and no LD_PRELOAD"

# posix_spawn() that returns when the program has ended
LATE = """#define _GNU_SOURCE
#include <dlfcn.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
		char *const argv[], char *const envp[])
{
	int (*real)() = (int (*)())dlsym(RTLD_NEXT, "posix_spawn");
	int error = real(pid, path, actions, attributes, argv, envp);
	siginfo_t info;

	if (!error && !waitid(P_PID, *pid, &info, WEXITED | WNOWAIT))
		(void)puts("late");
	return error;
}
"""

# Executes a program in a child without a descriptor; nothing in it can be traced
LAUNCHES = """#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int n, char **words)
{
	const struct rlimit none = {3, 3};

	if (!fork()) {
		setrlimit(RLIMIT_NOFILE, &none);
		execv(words[2], words + 2);
	}
	wait(0);
	(words[1][0] == '_' ? _exit : exit)(0);
}
"""


def trace(*words, options=(), **more):
    shutil.rmtree(FILE.parent, ignore_errors=True)
    FILE.parent.mkdir()
    return subprocess.run([SHUNT, "trace", "-o", FILE, "--keep-all", *options, "--", *words], timeout=60,
                          capture_output=True, text=True, check=False, **more)


def calls():
    """Of leaf(), in each file of the session that is whole, and nothing else in it."""
    found = []
    for path in sorted(glob.glob(f"{FILE}*")):
        out = subprocess.run([SHUNT, "report", "--json", path], capture_output=True, text=True, timeout=60, check=False)
        said = json.loads(out.stdout) if not out.returncode else {"functions": [], "complete": False}
        found += [sum(row["calls"] for row in said["functions"] if row["function"] == "leaf") if said["complete"] else None]
    return found


def recorded():
    """Each function by which another program is executed, each environment."""
    for how in "execve", "execle", "execvpe", "execveat", "fexecve", "environ", "posix_spawn", "posix_spawnp", "vfork":
        done = trace(PROGRAM, how, PROGRAM, "one")
        ok(done.returncode == 0 and not done.stderr and calls() == [100, 100] and "changed" not in done.stdout,
           f"an environment of its own: recorded: {how}", done, calls())
    for how in "null", "none", "edge", "many":
        for by in "execve", "posix_spawn", "vfork":
            done = trace(PROGRAM, by, PROGRAM, how)
            ok(done.returncode == 0 and not done.stderr and calls() == [100, 100], f"that is {how}: {by}", done, calls())
    done = trace(PROGRAM, "execve", PROGRAM, "one", options=["--flight"])
    ok(done.returncode == 0 and not done.stderr and calls() == [100, 100], "and with --flight", done, calls())
    for options in [], ["-F", "leaf"]:
        done = trace("env", "-i", PROGRAM, options=options)
        ok(done.returncode == 0 and not done.stderr and calls() == [100], f"env -i, which has nothing traced itself {' '.join(options)}", done, calls())
    done = trace("env", "-u", "SHUNT_TRACE_FILE", PROGRAM)
    ok(done.returncode == 0 and not done.stderr and calls() == [100], "without SHUNT_TRACE_FILE", done, calls())
    other = FOLDER / "other.so"
    done = trace("env", f"LD_PRELOAD={other}", PROGRAM)
    ok(done.returncode == 0 and not done.stderr and calls() == [100] and "other" in done.stdout, "another LD_PRELOAD: both are loaded", done, calls())
    done = trace("sh", "-c", f"env -i {PROGRAM} environ {PROGRAM} none; env -i {PROGRAM}")
    ok(done.returncode == 0 and not done.stderr and calls() == [100] * 3, "one behind the other, and another process", done, calls())
    done = trace("env", "-i", "A=B", "env")
    names = sorted(line.split("=")[0] for line in done.stdout.splitlines())
    ok(names[:2] == ["A", "LD_PRELOAD"] and all(name.startswith("SHUNT_TRACE_") for name in names[2:]), "what it is given", done)
    linker = glob.glob("/lib64/ld-linux-x86-64.so.2")
    done = trace("env", "-i", *linker, PROGRAM)
    ok(done.returncode == 0 and not done.stderr and calls() == [100], "by the dynamic linker", done, calls())


def linked_with(program):
    """Its libraries, and the dynamic linker."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [word for word in said.split() if word.startswith("/")]


def refused():
    """What the kernel says of an environment is what it says without the recorder, and nothing was executed."""
    bad = [f"bad-{what}-{address}" for what in ("at", "text") for address in ("1", "8", "7fffffffffff", "ffff888000000000")]
    for how in *bad, "unended", "unended-text":
        for by in ("execve", "posix_spawn") if how in bad[1:] else ("execve", "execveat", "execvpe", "posix_spawn"):
            bare = subprocess.run([PROGRAM, by, PROGRAM, how], capture_output=True, text=True, timeout=60, check=False)
            done = trace(PROGRAM, by, PROGRAM, how)
            ok("EFAULT" in bare.stdout and done.stdout == bare.stdout and done.returncode == 5 and not done.stderr and calls() == [100],
               f"one that cannot be read: {how}: {by}", bare, done, calls())
    for by in "execve", "execvpe", "posix_spawn":
        done = trace(PROGRAM, by, FOLDER / "nothing", "one")
        ok("ENOENT" in done.stdout and done.returncode == 5 and not done.stderr and calls() == [100], f"no program: {by}", done)
        done = trace(PROGRAM, by, FOLDER / "broken", "one")
        if by != "execvpe":  # of which the C library makes a script
            ok("ENOEXEC" in done.stdout and done.returncode == 5 and not done.stderr and calls() == [100],
               f"one that the kernel does not take: nothing is said: {by}", done)


def said():
    """What the recorder is not in."""
    done = trace("env", "-u", "LD_PRELOAD", PROGRAM)
    ok(done.returncode == 1 and done.stderr == f"shunt: trace: {PROGRAM} {LEFT}: {TAKEN}\n" and not calls(),
       "LD_PRELOAD alone was taken out: it is left out, and said; env is not blamed", done, calls())
    done = trace("sh", "-c", f"{PROGRAM}; unset LD_PRELOAD; {PROGRAM}; exec {PROGRAM}")
    ok(done.returncode == 0 and f"{PROGRAM} {LEFT}: {TAKEN}; nor is one more program" in done.stderr and
       len(done.stderr.splitlines()) == 1 and calls() == [100], "and of several", done, calls())
    for by in "execve", "posix_spawn":
        done = trace(PROGRAM, by, STATIC, "one")
        ok(done.returncode == (3 if by == "execve" else 0) and f"{STATIC} {LEFT}: it is linked statically" in done.stderr and calls() == [100],
           f"a static program: {by}", done, calls())
    script = FOLDER / "script"
    script.write_text(f"#! {STATIC} word\n")
    script.chmod(0o755)
    done = trace("env", "-i", script)
    ok(done.returncode == 3 and f"{script} {LEFT}: it is linked statically" in done.stderr, "a script whose interpreter is one", done)
    done = trace(PROGRAM, "fexecve", STATIC, "one")
    ok(f"a program by its descriptor {LEFT}: it is linked statically" in done.stderr, "by a descriptor", done)
    done = trace("env", "-i", FOLDER / "becomes", PROGRAM)
    ok(done.returncode == 0 and f"{FOLDER / 'becomes'} {LEFT}: it is linked statically\n" in done.stderr and calls() == [100],
       "a static program that executes another one, which is recorded", done, calls())
    if os.geteuid():
        skip("behind chroot()", "not root")
    else:
        (FOLDER / "root").mkdir()
        subprocess.run(["cp", "--parents", *linked_with(FOLDER / "dies"), FOLDER / "root"], check=True)
        shutil.copy(FOLDER / "dies", FOLDER / "root/dies")
        done = trace(PROGRAM, "chroot", "/dies", FOLDER / "root")
        ok(done.returncode == 3 and f"/dies {LEFT}: the recorder (libshunt-trace.so.0) cannot be opened" in done.stderr and "ld.so" not in done.stderr and
           calls() == [100], "where the recorder is not", done, calls())
    done = trace("sh", "-c", f"exec {FOLDER / 'dies'}")
    ok("dies " + LEFT + ": the recorder (libshunt-trace.so.0) has not begun in it" in done.stderr, "one that ends before", done)
    for by in "system", "popen":
        done = trace(PROGRAM, by, PROGRAM, "kept")
        ok(done.returncode == 0 and not done.stderr and calls() == [100, 100], f"{by}(): the environment is the program's", done, calls())
        done = trace(PROGRAM, by, PROGRAM, "cleared")
        ok(done.returncode == 0 and f"/bin/sh {LEFT}: system() or popen()" in done.stderr and calls() == [100], f"{by}(): behind clearenv(): said", done, calls())
    for by in "execve", "posix_spawn":
        done = trace(PROGRAM, by, PROGRAM, "full")
        bare = subprocess.run([PROGRAM, by, PROGRAM, "full"], capture_output=True, text=True, timeout=60, check=False)
        ok(bare.returncode == 0 and done.returncode == 0 and f"{PROGRAM} {LEFT}: its environment and arguments leave no room" in done.stderr and
           calls() == [100], f"no room for more: it runs all the same, and it is said: {by}", done, bare, calls())


def elsewhere():
    """posix_spawn() in another folder: of a relative name nothing is known; what is there runs as it is."""
    here, there = FOLDER / "here", FOLDER / "there"
    relative = "a relative name led to its file, behind file actions of posix_spawn(), which may change the folder"
    for folder in here, there:
        folder.mkdir()
    shutil.copy(PROGRAM, here / "one")
    shutil.copy(STATIC, there / "one")
    shutil.copy(STATIC, here / "two")
    shutil.copy(PROGRAM, there / "two")
    for by in "actions", "actions-fd", "actions-path":
        for name in "one", "two":
            path = name if "path" in by else f"./{name}"
            done = trace(PROGRAM, f"{by}:{there}", path, "one", cwd=here)
            ok(done.returncode == 0 and done.stderr == f"shunt: trace: {path} {LEFT}: {relative}\n" and calls() == [100],
               f"{by}: {path}", done, calls())
    done = trace(PROGRAM, f"actions-own:{there}", "./one", "one", cwd=here)
    ok(done.returncode == 0 and f"./one {LEFT}: the recorder (libshunt-trace.so.0) has not begun in it\n" in done.stderr and calls() == [100],
       "with the program's environment: one that does not begin: said", done, calls())
    done = trace(PROGRAM, f"actions-own:{there}", "./two", "one", cwd=here)
    ok(done.returncode == 0 and not done.stderr and calls() == [100, 100], "and one that does", done, calls())
    done = trace(PROGRAM, f"actions-own:{there}", "./two", "one", cwd=here, env={**os.environ, "LD_PRELOAD": str(FOLDER / "late.so")})
    ok(done.returncode == 0 and done.stdout.count("late") == 1 and not done.stderr and calls() == [100, 100],
       "and one that has ended before its parent tells of it", done, calls())
    done = trace(PROGRAM, f"actions:{there}", PROGRAM, "one", cwd=here)
    ok(done.returncode == 0 and not done.stderr and calls() == [100, 100], "control: an absolute name", done, calls())
    script = FOLDER / "relative"
    script.write_text("#! ./two\n")
    script.chmod(0o755)
    done = trace(PROGRAM, f"actions:{there}", script, "one", cwd=here)
    ok(done.returncode == 0 and f"{script} {LEFT}: {relative}" in done.stderr and calls() == [100], "a script whose interpreter is relative", done, calls())
    done = trace(PROGRAM, f"actions-null:{there}", PROGRAM, "one", cwd=here)
    ok(done.returncode == 5 and "EFAULT" in done.stdout and not done.stderr and calls() == [100], "no name", done, calls())
    compiler = shutil.which("musl-gcc")
    if compiler:
        subprocess.run([compiler, "-x", "c", "-", "-o", there / "three"],
                       input=f'#include <stdio.h>\nint main(void) {{ fclose(fopen("{FOLDER}/ran", "w")); return 3; }}', text=True, check=True)
        shutil.copy(PROGRAM, here / "three")
        done = trace(PROGRAM, f"actions:{there}", "./three", "one", cwd=here)
        ok((FOLDER / "ran").exists() and f"./three {LEFT}: {relative}" in done.stderr, "one that is linked to musl runs as it is", done)
    if os.geteuid():
        skip("POSIX_SPAWN_RESETIDS", "not root")
        return
    FOLDER.chmod(0o755)
    done = trace(PROGRAM, f"actions-reset:{there}", PROGRAM, "one")
    ok(done.returncode == 0 and f"{PROGRAM} {LEFT}: POSIX_SPAWN_RESETIDS of posix_spawn() has changed its rights\n" in done.stderr and calls() == [100],
       "with other rights than its parent's", done, calls())


def rights():
    """Programs whose files give them other rights; it is said where these count."""
    if os.geteuid():
        skip("a program with other rights", "not root")
        return
    FOLDER.chmod(0o755)
    other = shutil.copy(PROGRAM, FOLDER / "rights")
    for bits, user, group in (0o4755, 1, 0), (0o2755, 0, 1):
        os.chown(other, user, group)
        os.chmod(other, bits)
        counts = not os.statvfs(other).f_flag & os.ST_NOSUID and not int(subprocess.run(
            "sed -n 's/NoNewPrivs://p' /proc/self/status", shell=True, capture_output=True, check=True).stdout)
        done = trace(PROGRAM, "execve", other, "one")
        ok(done.stderr == (f"shunt: trace: {other} {LEFT}: its file gives it other rights\n" if counts else "") and
           calls() == ([100] if counts else [100, 100]), f"a program with other rights: {bits:o}", done, calls())
        done = trace(other)
        ok(f"the file of {other} gives it other rights" in done.stderr and done.returncode == 1 or not counts and not done.stderr,
           f"as the command: {bits:o}", done)
        done = trace(PROGRAM, "no-new", other, "one")
        ok(not done.stderr and calls() == [100, 100], f"where it can get none (PR_SET_NO_NEW_PRIVS): recorded: {bits:o}", done, calls())
    mount = FOLDER / "nosuid"
    mount.mkdir()
    script = 'mount -t tmpfs -o nosuid none "$1" && cp -p "$2" "$1" && exec "$3" execve "$1/rights" one'
    unshared = ["unshare", "-m", "sh", "-c", script, "sh", mount, other, PROGRAM]
    if subprocess.run(unshared, capture_output=True, check=False).returncode:
        skip("on a file system without set-user-ID", "no mount")
    else:
        done = trace(*unshared)
        ok(not done.stderr and [n for n in calls() if n] == [100, 100], "on a file system without set-user-ID: recorded", done, calls())
    os.chown(other, 2, 2)
    os.chmod(other, 0o4755)
    script = '"$1" execve "$2" one'
    unshared = ["unshare", "-r", "sh", "-c", script, "sh", PROGRAM, other]
    if subprocess.run(unshared, capture_output=True, check=False).returncode:
        skip("an owner who is not in the user namespace", "no user namespace")
    else:
        done = trace(*unshared)
        ok(not done.stderr and [n for n in calls() if n] == [100, 100], "an owner who is not in the user namespace: recorded", done, calls())


def without_descriptors():
    """What a child cannot say for want of a descriptor its parent does: of itself, and of what it executes."""
    failed = "the file of its session: open: Too many open files"
    for how in "limit", "table":
        done = trace(PROGRAM, f"less-{how}", PROGRAM, "2")
        ok(done.returncode == 1 and done.stderr.count(failed) == 2 and len(done.stderr.splitlines()) == 2 and calls() == [100],
           f"children without a descriptor: {how}", done, calls())
        done = trace(PROGRAM, f"less-{how}-exec", STATIC, "1")
        ok(done.returncode == 1 and failed in done.stderr and f"{STATIC} {LEFT}: the recorder (libshunt-trace.so.0) has not begun" in done.stderr,
           f"one that executes a static program: {how}", done, calls())
    for path, wanted in (PROGRAM, [100, 100]), (FOLDER / "nothing", [100]):
        done = trace(PROGRAM, "less-table-exec", path, "1")
        ok(done.returncode == 1 and failed in done.stderr and LEFT not in done.stderr and calls() == wanted,
           f"or one that is {'' if len(wanted) > 1 else 'not there, not '}recorded", done, calls())
    done = trace(PROGRAM, "less-limit", PROGRAM, "33")
    ok(done.returncode == 1 and done.stderr.count(failed) == 30 and "trace: 3 more messages of processes that could not send them" in done.stderr,
       "more than is kept", done)
    for how in "exit", "_exit":
        done = trace("sh", "-c", f"{PROGRAM}; exec {FOLDER / 'launches'} {how} {STATIC}", options=["-F", "leaf"])
        ok(done.returncode == 0 and f"{STATIC} {LEFT}: " in done.stderr and 100 in calls(),
           f"by a parent that is not recorded itself, and ends by {how}()", done, calls())


def musl():
    compiler = shutil.which("musl-gcc")
    if not compiler:
        skip("a program that is linked to musl", "no musl-gcc")
        return
    program = FOLDER / "musl"
    subprocess.run([compiler, "-x", "c", "-", "-o", program], input="int main(void) { return 3; }", text=True, check=True)
    if subprocess.run([program], check=False).returncode != 3:
        skip("a program that is linked to musl", "it does not run here")
        return
    done = trace("env", "-i", program)
    ok(done.returncode == 3 and f"{program} {LEFT}: it is linked to musl" in done.stderr, "a program that is linked to musl runs as it is", done)


def others():
    """Sessions of another command, or that tell nobody: they say it themselves."""
    inner = FOLDER / "inner.trace"
    done = trace(SHUNT, "trace", "-o", inner, "--", PROGRAM)
    ok(LEFT not in done.stderr and inner.exists(), "a shunt trace of its own", done)
    done = trace("env", "-u", "SHUNT_TRACE_TELL", PROGRAM)
    ok(LEFT not in done.stderr and calls() == [100], "nobody is told", done)
    done = trace("env", "-u", "SHUNT_TRACE_TELL", STATIC)
    ok(f"{STATIC} {LEFT}: it is linked statically" in done.stderr, "and would be told: of one that is left out it is said", done)
    done = trace("env", "-i", f"SHUNT_TRACE_FILE={inner}", PROGRAM)
    ok(done.stderr == f"shunt: trace: {PROGRAM} {LEFT}: {TAKEN}\n" and not calls(), "SHUNT_TRACE_FILE alone: said", done, calls())
    done = trace("env", "-u", "SHUNT_TRACE_TELL", "SHUNT_TRACE_FILE=", PROGRAM)
    ok(f"{PROGRAM} {LEFT}: the recorder (libshunt-trace.so.0) has not begun in it\n" in done.stderr and not calls(), "an empty one: said", done, calls())


def control():
    done = trace(PROGRAM, "bare", PROGRAM, "one")
    ok(calls() != [100, 100] and "executed another program without saying so" in done.stderr or done.returncode == 1,
       "control: by a system call of its own it is not recorded", done, calls())


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    subprocess.run(["gcc", "-O2", "-fpatchable-function-entry=5", "-w", "-o", PROGRAM, SOURCE], check=True)
    for name, source, options in (
            ("static", "int main(void) { return 3; }", ["-static"]),
            ("becomes", "#include <unistd.h>\nint main(int n, char **words) { return execv(words[1], words + 1); }", ["-static"]),
            ("other.so", "#include <stdio.h>\n__attribute__((constructor)) static void say(void) { (void)puts(\"other\"); }", ["-shared", "-fPIC"]),
            ("launches", LAUNCHES, []),
            ("late.so", LATE, ["-shared", "-fPIC"]),
            ("dies", "#include <unistd.h>\nstatic void die(void) { _exit(3); }\n"
             "__attribute__((section(\".preinit_array\"), used)) static void (*const first)(void) = die;\nint main(void) { return 0; }", [])):
        subprocess.run(["gcc", "-x", "c", "-", *options, "-o", FOLDER / name], input=source, text=True, check=True)
    (FOLDER / "broken").write_bytes(b"\x7fELF\2\1\1" + bytes(100))
    (FOLDER / "broken").chmod(0o755)
    recorded()
    refused()
    said()
    elsewhere()
    rights()
    without_descriptors()
    musl()
    others()
    control()
    return finish()


if __name__ == "__main__":
    sys.exit(main())
