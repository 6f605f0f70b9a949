#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the tests of a build directory on an emulated machine, under the distribution's own kernel.

    run.py MACHINE BUILD [--all | --quick] [--multi] [NAME...]

MACHINE is arm64 or kernel (x86-64). BUILD has been set up for it; what the tests need is built. Without --all: the
suites that CHOSEN has; --quick: the tests that QUICK has, in two minutes. NAME: only the tests whose names match (as in the shell:
api/*). script/test calls it. What is needed, script/bootstrap MACHINE installs and unpacks into .cache/machine.

A test that runs here is one that Meson has for BUILD and that needs nothing but the library, a shell, Python and its own
programs: not a compiler, a debugger or the source of the kernel. The emulator has one host thread for all CPUs, so that
what one CPU has written is what another one fetches behind the core sync. With --multi it has a thread for each, and is
no oracle: QEMU goes on executing what it has translated of an instruction that has been replaced. An emulator of either
kind has no stale instruction cache to show.

Writes testlog.json and testlog.junit.xml into BUILD/meson-logs, as `meson test` does; machine.txt, what each test said; and
console.log, what the machine says as it says it: how far a test is that hangs. Exit status 1 if a test
failed, or none ran.
"""
import argparse
import fnmatch
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

sys.dont_write_bytecode = True  # not into the source tree
import console  # pylint: disable=wrong-import-position
import image  # pylint: disable=wrong-import-position
import results  # pylint: disable=wrong-import-position

SOURCE = pathlib.Path(__file__).resolve().parents[2]
CACHE = SOURCE / ".cache" / "machine"
LIMIT = 10, 300, 1800  # a test's own limit so many times (as in script/test), at least, at most: seconds

# Suites of tests that compile, or look at this machine's files, tools or emulators.
ELSEWHERE = {"compilers", "package", "model", "ring0", "gdb", "bench", "house", "closure", "matrix"}

# What is run without --all, by suite or name: what depends on the CPU and the kernel. "long" never is.
CHOSEN = {
    "arm64": {"unit", "live", "api", "keys", "modules", "preserve", "unwind", "torture", "sync", "trace", "examples"},
    "kernel": {"live", "sync", "traps", "hostile/debugger_writes", "hostile/small_stacks", "hostile/auto_with_signals",
               "hostile/blocking_calls", "hostile/first_update", "hostile/own_sigtraps"},
}
# But for these, which are minutes each there: what a faked answer of a system call leads to is not the kernel's.
TOO_DEAR = {
    "arm64": set(),
    "kernel": {"live/faked_syscalls", "live/faked_writes", "live/no_counter"},
}

# What script/test runs without being asked: of each of the parts that have code for the CPU.
QUICK = {
    "arm64": ("unit/[!c]*", "keys/*", "api/aarch64", "api/suite-[!O]*", "api/far_text*", "live/selftest",
              "live/policies-mem", "live/sandbox", "live/*undone", "modules/load_unload", "modules/startup", "modules/faults",
              "unwind/single_step", "trace/registers*", "trace/returns_*", "trace/never_skipped", "trace/contexts", "trace/modules*",
              "trace/variant_calls*", "tool/*"),
}

# QEMU before 9.1 takes an iret of a program's own for the kernel's access to its stack, which SMAP forbids. And
# QEMU's own way to sign pointers is several times faster than the architecture's. "clock": time goes by with the
# instructions, so that a busy host ends no test too early, and CPUs take turns more often; QEMU 7.2 starts no second
# x86-64 CPU so.
MACHINES = {
    "arm64": {"architecture": "arm64", "tools": "aarch64-linux-gnu-",
              "emulator": ["qemu-system-aarch64", "-M", "virt", "-cpu", "max,pauth-impdef=on", "-smp", "3"], "console": "ttyAMA0",
              "clock": ["-icount", "shift=3"]},
    "kernel": {"architecture": "amd64", "tools": "",
               "emulator": ["qemu-system-x86_64", "-cpu", "max,smap=off", "-smp", "2"], "console": "ttyS0", "clock": []},
}
MEMORY = "2048"  # MiB
PARAMETERS = "panic=-1 oops=panic loglevel=4 random.trust_cpu=on"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def expected_to_fail(build):
    """Names of the tests with should_fail, which `meson introspect` does not tell; Meson's own Python reads its file."""
    with open(shutil.which("meson"), encoding="utf-8", errors="replace") as script:
        interpreter = script.readline()[2:].split()
    code = "import pickle, sys; print(*(t.name for t in pickle.load(open(sys.argv[1], 'rb')) if t.should_fail), sep='\\n')"
    found = subprocess.run([*interpreter, "-c", code, build / "meson-private" / "meson_test_setup.dat"],
                           capture_output=True, text=True, check=True)
    return set(found.stdout.split("\n"))


def read_tests(build):
    """What Meson has: name, title (as in its logs), cmd, env, suites, limit and so on."""
    found = subprocess.run(["meson", "introspect", "--tests", build], capture_output=True, text=True, check=True)
    failing = expected_to_fail(build)
    tests = json.loads(found.stdout)
    for test in tests:
        test["suites"] = {suite.split(":")[-1] for suite in test["suite"]}
        test["title"] = "shunt:" + "+".join(sorted(test["suites"])) + " / " + test["name"]
        test["should_fail"] = test["name"] in failing
        times, least, most = LIMIT
        test["limit"] = min(max(test["timeout"] * times, least), most)
    return sorted(tests, key=lambda test: -test["priority"])


def is_chosen(test, options):
    """Whether it is in the part that @options ask for."""
    if options.names or options.quick:
        names = options.names or QUICK.get(options.machine, ())
        return any(fnmatch.fnmatch(test["name"], name) for name in names)
    named = test["suites"] | {test["name"]}
    return options.all or bool(named & CHOSEN[options.machine]) and not named & (TOO_DEAR[options.machine] | {"long"})


def choose(tests, options):
    """Those to run, and of the others how many there are by the reason."""
    chosen, left_out = [], {}
    for test in tests:
        why = None
        if test["suites"] & ELSEWHERE:
            why = "in suites that need a compiler or this machine: " + ", ".join(sorted(test["suites"] & ELSEWHERE))
        elif not is_chosen(test, options):
            why = "not asked for" if options.names else "not in the chosen part"
        if why:
            left_out[why] = left_out.get(why, 0) + 1
        else:
            chosen.append(test)
    return chosen, left_out


def ninja(build, files):
    if files and subprocess.run(["ninja", "-C", build, "--quiet", *files], check=False).returncode:
        sys.exit("run.py: what the tests need could not be built")


def make_programs(tests, build):
    """Has ninja make what the tests run."""
    found = subprocess.run(["meson", "introspect", "--targets", build], capture_output=True, text=True, check=True)
    wanted = {target for test in tests for target in test["depends"]}
    files = [file for target in json.loads(found.stdout) if target["id"] in wanted for file in target["filename"]]
    ninja(build, [os.path.relpath(file, build) for file in files])


def list_for_init(tests, build):
    """What init.c reads."""
    lines = []
    for test in tests:
        variables = {"PATH": PATH, "HOME": "/root", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "EMULATED_MACHINE": "1", **test["env"]}
        lines += [f"seconds {test['limit']}", f"folder {test['workdir'] or build}"]
        lines += [f"variable {name}={value}" for name, value in variables.items()]
        lines += [f"argument {word}" for word in test["cmd"]] + ["run"]
    if any("\n" in line for line in lines):
        sys.exit("run.py: a test's words have a line feed")
    return "\n".join(lines) + "\n"


def make_image(machine, build, tests):
    """The initial file system; returns its path."""
    tools, root = machine["tools"], CACHE / machine["architecture"] / "root"
    init, path = build / "machine-init", build / "machine.cpio"
    subprocess.run([tools + "gcc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-static",
                    SOURCE / "tests" / "machine" / "init.c", "-o", init], check=True)
    image.make(path, root, init, SOURCE, build, list_for_init(tests, build), tools + "strip")
    return path


def emulator(machine, archive, multi):
    """The command of one boot, as a function of the first test."""
    how = ["-accel", "tcg,thread=multi"] if multi else ["-accel", "tcg,thread=single", *machine["clock"]]

    def command(first):
        words = f"console={machine['console']} {PARAMETERS} shunt_first={first}"
        return [*machine["emulator"], *how, "-m", MEMORY, "-nodefaults", "-no-reboot",
                "-display", "none", "-serial", "stdio", "-kernel",
                CACHE / machine["architecture"] / "vmlinuz", "-initrd", archive, "-append", words]

    return command


def run(options, tests, build):
    """Returns (test, Result, Judged) of each."""
    machine = MACHINES[options.machine]
    log = open(build / "meson-logs" / "machine.txt", "w", encoding="utf-8")  # pylint: disable=consider-using-with
    told = {}

    def tell(number, result):
        judged = results.judge(tests[number], result)
        told[number] = tests[number], result, judged
        line = f"{len(told)}/{len(tests)} {tests[number]['name']:40} {judged.result:12} {result.seconds:7.1f} s {result.spent:6.1f} CPU"
        print(line + (f"  {judged.why}" if judged.why else ""), flush=True)
        print(f"== {line}  {judged.why}\n{result.output}", file=log, flush=True)

    with open(build / "meson-logs" / "console.log", "wb") as copy:
        _, wrong = console.run_tests(emulator(machine, make_image(machine, build, tests), options.multi),
                                     [test["limit"] for test in tests], tell, copy)
    log.close()
    for number, test in enumerate(tests):
        if number not in told:
            result = console.Result("machine", 0, 0, wrong or "not run")
            told[number] = test, result, results.Judged("ERROR", [], "not run: " + (wrong or "").split("\n", maxsplit=1)[0])
            print(f"{test['name']}: not run")
    if wrong:
        print(wrong)
    return [told[number] for number in sorted(told)]


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1].strip())
    parser.add_argument("machine", choices=MACHINES)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--multi", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_intermixed_args()
    build = options.build.resolve()
    ninja(build, ["build.ninja"])  # the list of tests, as the source has it now
    tests, left_out = choose(read_tests(build), options)
    kernel = (CACHE / MACHINES[options.machine]["architecture"] / "kernel").read_text(encoding="utf-8").strip()
    print(f"{len(tests)} tests under {kernel.replace(chr(9), ' ')}")
    for why, count in left_out.items():
        print(f"left out: {count} {why}")
    if options.multi:
        print("a thread for each CPU: this run is no oracle, the emulator may execute replaced instructions of its own")
    make_programs(tests, build)
    told = run(options, tests, build) if tests else []
    results.write(build / "meson-logs", told)
    ran = [judged for _, _, judged in told if judged.result != "SKIP"]
    return 1 if not ran or any(judged.result not in ("OK", "EXPECTEDFAIL") for judged in ran) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the emulator ends with this
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    sys.exit(main())
