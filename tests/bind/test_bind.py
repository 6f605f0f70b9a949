#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""
Modules that call a key of another one, bound in all the ways that the dynamic linker
binds: each call must go where it went without libshunt, be updated with the key that it
is bound to and no other, and be inline where that is proved. As linked, and baked.

    test_bind.py SHUNT INCLUDEDIR LIBDIR [--controls] [--few]

LIBDIR has libshunt.so. With --controls it has one that guesses (guessing_control.c): each scene
must then go wrong by the guess that it is there for. With --few scenes are by ld.bfd and lld, baked as the
first of their linkers makes them, no control is, and lld's PLT has no flags. One line of TAP a scene.
"""

import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
SHUNT, INCLUDE, LIB = (os.path.abspath(a) for a in sys.argv[1:4])
CONTROLS, FEW = "--controls" in sys.argv, "--few" in sys.argv
LAZY = "trampoline: not bound yet: lazy binding"
FAR = "far: the target is more than 2 GiB away"
OTHER = "trampoline: bound to what is not the trampoline of a key that is known here"
LINKERS = [ld for ld in ("bfd", "lld", "gold", "mold")[:2 if FEW else 4] if shutil.which("ld." + ld)]
count = failed = 0


def tell(good, what, lines=()):
    global count, failed
    count += 1
    failed += not good
    print(f"{'' if good else 'not '}ok {count} - {what}", flush=True)
    for line in () if good else lines:
        print("# " + line)


def run(*command, env=None):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=120, errors="replace",
                          env=dict(os.environ, SHUNT_LOG="0", LC_ALL="C", **(env or {})))


IN_LINKING = re.compile(r"-Wl,|-l|-L|-shared$|-r(dynamic)?$|-(no-)?pie$")
objects = {}  # by what is compiled, and how: for all scenes
objects_dir = tempfile.mkdtemp(prefix="shunt-bind-objects-")
objects_lock = threading.Lock()


def compiled(source, flags):
    """The object of a source, which is compiled once alike. (Starting a compiler is what this test costs.)"""
    key = (source, *flags)
    with objects_lock:
        if key not in objects:
            out = os.path.join(objects_dir, f"{len(objects)}.o")
            result = run("gcc", "-O2", "-g0", "-w", "-D_GNU_SOURCE", "-I" + INCLUDE, *flags, "-c", os.path.join(HERE, source), "-o", out)
            if result.returncode:
                raise RuntimeError(f"{source} {flags}\n{result.stdout}")
            objects[key] = out
        return objects[key]


class Bench:
    """A folder with what one scene is made of, each file once."""

    def __init__(self, ld, guess):
        self.dir = tempfile.mkdtemp(prefix="shunt-bind-")
        self.ld = ld
        self.env = {"BIND_GUESS": guess} if guess else {}

    def cc(self, out, sources, *flags, shunt=True):
        if os.path.exists(os.path.join(self.dir, out)):
            return
        command = ["gcc", "-fuse-ld=" + self.ld]
        in_compiling = [f for f in flags if not IN_LINKING.match(f)]
        command += [s if s.endswith(".o") else compiled(s, in_compiling) for s in sources]
        command += ["-o", os.path.join(self.dir, out), "-Wl,-rpath,$ORIGIN", "-L" + self.dir]
        command += list(flags) + ["-ldl"]
        if shunt:
            command += ["-Wl,--emit-relocs", "-L" + LIB, "-lshunt", "-Wl,-rpath," + LIB]
        result = run(*command)
        if result.returncode:
            raise RuntimeError(" ".join(command) + "\n" + result.stdout)

    def key(self, out, number, *flags):
        self.cc(out, ["key.c"], "-fPIC", "-shared", f"-DNUMBER={number}", f"-DKEY=key{number}",
                "-Wl,-soname," + out, "-Wl,-z,now", *flags)

    def user(self, out, *flags, now=True):
        """A plugin with calls through PLT and GOT."""
        got = compiled("caller_got.c", ["-fPIC", "-fno-plt"])
        self.cc(out, ["caller.c", got], "-fPIC", "-shared", "-Wl,-z," + ("now" if now else "lazy"),
                *flags)

    def host(self, *flags, sources=(), shunt=False, pie="-pie"):
        self.cc("host", ["host.c", *sources], "-fPIE" if pie == "-pie" else "-fno-pie", pie,
                "-Wl,-z,lazy", *flags, shunt=shunt)

    def bake(self, *names):
        for name in names:
            result = run(SHUNT, "bake", os.path.join(self.dir, name))
            if result.returncode:
                raise RuntimeError(result.stdout)

    def go(self, *steps, env=None):
        """None, or what went wrong."""
        steps = [re.sub(r"^(\w+):", r"\1:" + self.dir + "/", s) for s in steps]
        result = run(os.path.join(self.dir, "host"), *steps, env={**self.env, **(env or {})})
        if result.returncode == 0:
            return None
        return f"status {result.returncode}: {result.stdout.strip()}"


def calls(number, state="inline"):
    """All calls of the plugin reach @number, and its sites are so."""
    tail = state.replace("inline", "tail")
    return [f"run()={number}", f"tail()={number}", f"run_got()={number}", f"by_pointer()={number}",
            f"state(run)={state}", f"state(tail)={tail}", f"state(run_got)={state}"]


def updated():
    return ["update(1)=0", *calls(7), "update(0)=0", *calls(8)]


# A scene: a function of a bench and whether plugins are baked; returns what went wrong.

def twins(b, bake):
    """Two plugins with keys of one name, RTLD_LOCAL."""
    b.key("p1.so", 100)
    b.key("libq.so", 200)
    b.user("p2.so", "-l:libq.so")
    b.host()
    if bake:
        b.bake("p1.so", "libq.so", "p2.so")
    return b.go("local:p1.so", "key100_run()=100", "local:p2.so", *calls(200), *updated(),
                "@0", "key100_run()=100", "key100_update(1)=0", "key100_run()=107", "@1", *calls(8))


def deepbind(b, bake):
    """RTLD_DEEPBIND: the plugin's own library goes before the program's key; else not."""
    b.key("libq.so", 200)
    b.user("user.so", "-l:libq.so")
    b.host("-rdynamic", "-DNUMBER=1", sources=["key.c"], shunt=True)
    if bake:
        b.bake("user.so")
    return b.go("key_run()=1", "deep:user.so", *calls(200), *updated()) or \
        b.go("local:user.so", *calls(1, FAR), *updated(), "update(1)=0", "@host", "key_run()=7")


def versions(b, bake):
    """Two versions of the key in one scope, each plugin bound to its own."""
    for number, version in ("10", "VERS_1"), ("20", "VERS_2"):
        script = os.path.join(b.dir, version)
        with open(script, "w") as f:
            f.write(version + " { global: *; };\n")
        b.key(f"libv{number}.so", number, "-Wl,--version-script=" + script)
        b.user(f"user{number}.so", f"-l:libv{number}.so")
        if bake:
            b.bake(f"user{number}.so")
    b.host()
    return b.go("global:libv10.so", "global:libv20.so", "local:user20.so", *calls(20), *updated(),
                "local:user10.so", *calls(10), *updated(), "@0", "key10_update(1)=0", "@2", *calls(8),
                "@3", *calls(17))


def space(b, bake):
    """Plugins in a namespace of its own, with a libshunt of its own."""
    b.key("libq.so", 200)
    b.key("p1.so", 100)
    b.cc("first.so", ["auditor.c"], "-fPIC", "-shared", shunt=False)
    b.user("user.so", "-l:libq.so")
    b.host("-rdynamic", "-DNUMBER=1", sources=["key.c"], shunt=True)
    if bake:
        b.bake("user.so")
    return b.go("space:first.so", "same:p1.so", "key100_run()=100", "same:user.so", *calls(200),
                *updated(), "local:user.so", *calls(1, FAR), *updated(), "@1", "key100_update(1)=0",
                "key100_run()=107", "@2", *calls(8))


def preload(b, bake):
    """LD_PRELOAD of another definition of the key."""
    b.key("libq.so", 200)
    b.key("pre.so", 300)
    b.user("libuser.so", "-l:libq.so")
    b.host("-Wl,--no-as-needed,-l:libuser.so,-l:libq.so", shunt=True)
    if bake:
        b.bake("libuser.so")
    return b.go(*calls(200), *updated(), "key200_run()=8") or \
        b.go(*calls(300), *updated(), "key200_run()=200", env={"LD_PRELOAD": b.dir + "/pre.so"})


def wrapper(b, bake):
    """A function of the trampoline's name goes before it."""
    b.key("libq.so", 200)
    b.key("pre.so", 55, "-DINTERPOSER")
    b.user("libuser.so", "-l:libq.so")
    b.host("-Wl,--no-as-needed,-l:libuser.so,-l:libq.so", shunt=True)
    if bake:
        b.bake("libuser.so")
    return b.go(*calls(55, OTHER), "key200_update(1)=0", *calls(55, OTHER), "key200_run()=207",
                env={"LD_PRELOAD": b.dir + "/pre.so"})


def ifunc(b, bake):
    """The trampoline's name is an indirect function."""
    b.key("libq.so", 200)
    b.key("libi.so", 99, "-DIFUNC")
    b.user("user.so", "-l:libi.so")
    b.host()
    if bake:
        b.bake("user.so")
    return b.go("local:libq.so", "key200_run()=200", "local:user.so", *calls(99, OTHER), "@0",
                "key200_update(1)=0", "key200_run()=207", "@1", *calls(99, OTHER))


def audit(b, bake, now=True, flags=()):
    """An auditor that binds the calls elsewhere (where they go through JUMP_SLOT)."""
    b.cc("auditor.so", ["auditor.c"], "-fPIC", "-shared", *flags, shunt=False)
    b.key("libq.so", 200)
    b.user("user.so", "-l:libq.so", now=now)
    b.host()
    if bake:
        b.bake("user.so")
    env = {"LD_AUDIT": b.dir + "/auditor.so"}
    # With the call through the GOT bfd makes one slot of both: GLOB_DAT, which is not audited.
    audited = 66 if b.ld != "bfd" else 200
    state = "inline" if audited != 66 else OTHER if now else LAZY
    return b.go("lazy:user.so", f"run()={audited}", f"state(run)={state}", "run_got()=200",
                "state(run_got)=inline", "update(1)=0", f"run()={audited if audited == 66 else 7}",
                "run_got()=7", env=env)


def audit_lazy(b, bake):
    """The same with lazy binding, and an auditor that wants to see each call."""
    return audit(b, bake, now=False, flags=["-DSTAYS"])


def later(b, bake):
    """Undefined when it is loaded; bound, lazily, to what comes RTLD_GLOBAL later."""
    b.key("libq.so", 200)
    b.cc("user.so", ["caller.c"], "-fPIC", "-shared", "-DNO_KEY", "-Wl,-z,lazy",
         "-Wl,-z,undefs" if b.ld in ("lld", "mold") else "-Wl,--unresolved-symbols=ignore-all")
    b.host()
    if bake:
        b.bake("user.so")
    return b.go("lazy:user.so", "state(run)=" + LAZY, "global:libq.so", "key200_update(1)=0",
                "@0", "state(run)=" + LAZY, "run()=207", "state(run)=inline", "@1",
                "key200_update(0)=0", "@0", "run()=200", "state(run)=inline")


def slots(b, bake):
    """PLT and GOT slot of one symbol, bound to different keys at different times."""
    b.key("libq.so", 200)
    b.key("libg.so", 400)
    b.user("user.so", "-l:libq.so", now=False)
    b.host()
    if bake:
        b.bake("user.so")
    return b.go("lazy:user.so", "run_got()=200", "state(run)=" + LAZY, "state(run_got)=inline",
                "global:libg.so", "@0", "run()=400", "run_got()=200", "state(run)=inline",
                "update(1)=0", "run()=400", "run_got()=7", "@1", "key400_update(1)=0", "@0",
                "run()=407", "tail()=407", "run_got()=7")


def canonical(b, bake):
    """The symbol is bound to the PLT entry of an executable at a fixed address."""
    b.key("libq.so", 200, "-DPREEMPTIBLE")
    b.user("libuser.so", "-l:libq.so")
    b.cc("libother.so", ["second_key.c"], "-fPIC", "-shared", "-DLIBRARY")
    # The program's first calls are of another key.
    b.cc("host", ["host.c", "second_key.c", "caller.c"], "-fno-pie", "-no-pie",
         "-fcf-protection", "-Wl,-z,lazy", "-Drun=exe_run", "-Dtail=exe_tail",
         "-Dby_pointer=exe_pointer", "-Dupdate=exe_update", "-Dstate=exe_state",
         "-Dupdate_to_itself=exe_to_itself", "-Wl,--no-as-needed", "-l:libuser.so",
         "-l:libq.so", "-l:libother.so", "-rdynamic",
         *(["-Wl,-z,ibtplt"] if b.ld == "bfd" else []))
    if bake:
        b.bake("libuser.so", "host")
    # The program's call comes first: then its PLT entry's slot is bound.
    return b.go("other_run()=90", "exe_run()=200", "run()=200", "state(run)=inline", "update(1)=0",
                "run()=7", "exe_run()=7", "exe_tail()=7", "run_got()=7", "by_pointer()=7",
                "exe_pointer()=7", "exe_update(0)=0", "exe_run()=8", "run()=8", "other_run()=90",
                "exe_to_itself(0)=1", "update_to_itself(0)=1", "exe_run()=8", "run()=8")


def preemptible(b, bake):
    """A key of default visibility, called in its own module, and defined twice."""
    b.key("libq.so", 200, "-DPREEMPTIBLE")
    b.key("pre.so", 300)
    b.host("-Wl,--no-as-needed,-l:libq.so", shunt=True)
    if bake:
        b.bake("libq.so")
    return b.go("key200_run()=200", "key200_update(1)=0", "key200_run()=207") or \
        b.go("key200_run()=300", "key200_update(1)=0", "key200_run()=207", "key300_run()=207",
             env={"LD_PRELOAD": b.dir + "/pre.so"})


def symbolic(b, bake):
    """The same with -Bsymbolic: the module's own."""
    b.key("libq.so", 200, "-DPREEMPTIBLE", "-Wl,-Bsymbolic")
    b.key("pre.so", 300)
    b.host("-Wl,--no-as-needed,-l:libq.so", shunt=True)
    if bake:
        b.bake("libq.so")
    return b.go("key200_run()=200", "key200_update(1)=0", "key200_run()=207", "key300_run()=300",
                env={"LD_PRELOAD": b.dir + "/pre.so"})


def relaxed(b, bake):
    """Calls through the GOT of the program's own key, which linkers make direct ones."""
    b.cc("host", ["host.c", "key.c", "caller.c"], "-fPIE", "-pie", "-fno-plt", "-DNUMBER=5",
         "-rdynamic", "-Wl,-z,now")
    if bake:
        b.bake("host")
    return b.go("run()=5", "tail()=5", "state(run)=inline", "state(tail)=tail", "update(1)=0",
                "run()=7", "tail()=7", "state(run)=inline", "state(tail)=tail")


def forms(flags):
    """The PLT forms of a linker: bound when loaded, and lazily."""
    def scene(b, bake):
        b.key("libq.so", 200)
        b.user("now.so", "-l:libq.so", *flags)
        b.cc("lazy.so", ["caller.c"], "-fPIC", "-shared", "-Wl,-z,lazy", "-DNO_KEY", "-l:libq.so",
             *flags)
        b.host()
        if bake:
            b.bake("now.so", "lazy.so")
        return b.go("local:now.so", *calls(200), *updated(), "lazy:lazy.so", "state(run)=" + LAZY,
                    "run()=8", "state(run)=inline", "@0", "update(1)=0", *calls(7), "@1", "run()=7",
                    "tail()=7")
    return scene


FORMS = {
    "": [],
    "-fcf-protection": ["-fcf-protection"],
    "ibtplt": ["-fcf-protection", "-Wl,-z,ibtplt"],
    "bndplt": ["-Wl,-z,bndplt"],
}
SCENES = [  # what, linkers, and the guess that it goes wrong by
    (twins, ["bfd"], "dlsym"),
    (deepbind, ["bfd", "lld"], "dlsym"),
    (versions, ["bfd", "gold"], "dlsym"),
    (space, ["bfd"], "dlsym"),
    (preload, ["bfd"], "name"),
    (wrapper, ["bfd"], "name"),
    (ifunc, ["bfd"], "name"),
    (audit, ["lld", "bfd"], "name"),
    (audit_lazy, ["lld"], "name"),
    (later, ["bfd", "lld"], "once"),
    (slots, ["lld", "gold"], "dlsym"),
    (canonical, ["bfd", "lld"], "dlsym"),
    (preemptible, ["bfd", "lld"], "name"),
    (symbolic, ["bfd"], None),
    (relaxed, ["bfd", "gold", "lld", "mold"], None),
]


def try_it(job):
    """The lines to tell of a scene: (good, what, lines), as linked and baked."""
    scene, name, ld, guess, is_baked = job
    bench = Bench(ld, guess if CONTROLS else None)
    told = []
    try:
        for bake in [False] + [True] * is_baked:
            what = name + (" baked" if bake else "")
            wrong = scene(bench, bake)
            if CONTROLS:
                told.append((wrong is not None, f"{what}: goes wrong by {guess}", ["it holds"]))
            else:
                told.append((wrong is None, what, (wrong or "").splitlines()))
    except RuntimeError as e:
        told.append((False, name, str(e).splitlines()))
    finally:
        shutil.rmtree(bench.dir, ignore_errors=True)
    return told


def jobs():
    for scene, linkers, guess in SCENES:
        for ld in [ld for ld in linkers if ld in LINKERS]:
            if not CONTROLS or guess and ld == linkers[0]:
                yield scene, f"{scene.__name__} {ld}", ld, guess, not FEW or ld == linkers[0] and not CONTROLS
    for ld in LINKERS:
        for what, flags in FORMS.items():
            if what and ld != "bfd" and (FEW or what in ("ibtplt", "bndplt")) or CONTROLS and (what or ld != "bfd"):
                continue
            yield forms(flags), f"PLT of {ld} {what}".strip(), ld, "once", not FEW or ld == "bfd" and not what and not CONTROLS


def main():
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for told in pool.map(try_it, jobs()):
            for line in told:
                tell(*line)
    shutil.rmtree(objects_dir, ignore_errors=True)
    print(f"1..{count}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
