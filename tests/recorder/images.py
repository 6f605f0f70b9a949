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

SHUNT, SOURCE, FOLDER = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]).resolve()
PROGRAM, STATIC, FILE = FOLDER / "images", FOLDER / "static", FOLDER / "sessions/x.trace"
LEFT = "was executed and is not recorded"
TAKEN = "its environment has SHUNT_TRACE_FILE, and no LD_PRELOAD"


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
    for how in "bad", "bad-text", "unended", "unended-text":
        for by in "execve", "execveat", "execvpe", "posix_spawn":
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
    if os.geteuid():
        skip("a program with other rights", "not root")
    else:
        other = shutil.copy(PROGRAM, FOLDER / "rights")
        os.chown(other, 65534, 65534)
        os.chmod(other, 0o4755)
        done = trace(PROGRAM, "execve", other, "one")
        ok(f"{other} {LEFT}: it runs with the rights of another user" in done.stderr and calls() == [100] or calls() == [100, 100],
           "a program with other rights", done, calls())
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
            ("dies", "#include <unistd.h>\nstatic void die(void) { _exit(3); }\n"
             "__attribute__((section(\".preinit_array\"), used)) static void (*const first)(void) = die;\nint main(void) { return 0; }", [])):
        subprocess.run(["gcc", "-x", "c", "-", *options, "-o", FOLDER / name], input=source, text=True, check=True)
    (FOLDER / "broken").write_bytes(b"\x7fELF\2\1\1" + bytes(100))
    (FOLDER / "broken").chmod(0o755)
    recorded()
    refused()
    said()
    musl()
    others()
    control()
    return finish()


if __name__ == "__main__":
    sys.exit(main())
