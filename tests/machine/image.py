# SPDX-License-Identifier: MIT
"""The initial file system of an emulated machine: a cpio archive that the kernel unpacks."""
import os
import pathlib
import stat
import subprocess
import tempfile

LINK, DEVICE = stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o600
# Of the unpacked packages: what a compiler or a reader would need.
NOT_WANTED = ("usr/include", "usr/share", "var", "usr/lib/python3.11/test")
NOT_BUILT = (".p", ".o", ".a", ".symbols", ".ninja", ".log", ".cpio")
FOLDERS = ("dev", "proc", "sys", "tmp", "run", "root", "machine", "var/tmp")
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}


class Image:
    """The archive's entries, in the order in which they are added: format "newc" of cpio."""

    def __init__(self, path):
        self.file = open(path, "wb")  # pylint: disable=consider-using-with
        self.count = 0
        self.there = {""}

    def entry(self, name, mode, data=b"", device=(0, 0)):
        self.count += 1
        name = name.encode()
        fields = (self.count, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + name + b"\0"
        for part in header, data:
            self.file.write(part + b"\0" * (-len(part) % 4))

    def new(self, name):
        """Whether @name is to be added; the folders that it is in are, if they are not there."""
        if name in self.there:
            return False
        parent = os.path.dirname(name)
        if self.new(parent):
            self.entry(parent, stat.S_IFDIR | 0o755)
        self.there.add(name)
        return True

    def folder(self, name):
        if self.new(name):
            self.entry(name, stat.S_IFDIR | 0o755)

    def data(self, name, data, mode=0o644):
        if self.new(name):
            self.entry(name, stat.S_IFREG | mode, data)

    def add(self, name, path, strip=None):
        """The file or link @path under @name; @strip: the program that takes debugging information out."""
        if path.is_symlink():
            if self.new(name):
                self.entry(name, LINK, os.readlink(path).encode())
            return
        data = path.read_bytes()
        if strip and data.startswith(b"\x7fELF") and len(data) > 1 << 16:
            data = stripped(path, strip)
        self.data(name, data, path.stat().st_mode & 0o777 | 0o444)

    def tree(self, name, path, left_out=()):
        """All below @path, but for what @left_out names, relative to it."""
        for where, folders, files in os.walk(path):
            here = pathlib.Path(where)
            inner = os.path.relpath(where, path)
            under = "" if inner == "." else inner + "/"
            links = [folder for folder in folders if (here / folder).is_symlink()]
            folders[:] = sorted(f for f in folders if f not in links and under + f not in left_out)
            for folder in folders:
                self.folder(os.path.join(name, under + folder))
            for file in sorted(files) + links:
                if under + file not in left_out and not file.endswith((".a", ".pyc", ".o")):
                    self.add(os.path.join(name, under + file), here / file)

    def close(self):
        self.entry("TRAILER!!!", 0)
        self.file.close()


def stripped(path, strip):
    with tempfile.NamedTemporaryFile() as file:
        done = subprocess.run([strip, "--strip-debug", "-o", file.name, path], stderr=subprocess.DEVNULL, check=False)
        return pathlib.Path(file.name).read_bytes() if done.returncode == 0 else path.read_bytes()


def is_program(path):
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def add_build(image, build, words, strip):
    """What was built, at the place where it is here, for tests have its paths. Of the programs those that
    @words, the tests' words in one text, name; of the rest all."""
    for where, folders, files in os.walk(build):
        folders[:] = sorted(f for f in folders if not f.endswith(".p") and not f.startswith("meson-"))
        for file in sorted(files):
            path = pathlib.Path(where, file)
            if file.startswith(".") or file.endswith(NOT_BUILT) or not path.exists():
                continue
            # Some name them as they lie in the build directory.
            if ".so" in file or not is_program(path) or os.path.relpath(path, build) in words:
                image.add(str(path).lstrip("/"), path, strip)


def add_source(image, source):
    for folder in "tests", "examples", "include", "tools", "src", "doc/man", "packaging/completions":
        image.tree(str(source / folder).lstrip("/"), source / folder)


def make(path, root, init, source, build, tests, strip):
    """@root: the unpacked packages; @init: the first process; @tests: what it reads of the tests."""
    image = Image(path)
    image.folder("dev")
    image.entry("dev/console", DEVICE, device=(5, 1))
    image.tree("", root, NOT_WANTED)
    for folder in FOLDERS:
        image.folder(folder)
    for name, text in FILES.items():
        image.data(name, text.encode())
    image.add("init", init)
    image.data("machine/tests", tests.encode())
    add_source(image, source)
    add_build(image, build, tests, strip)
    image.close()
