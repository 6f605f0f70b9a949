#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The disk image for Bochs: boot sector, command line (empty), flat kernel (boot/disk.S).

usage: mkdisk.py OBJCOPY KERNEL BOOTSECTOR OUT
"""
import os
import struct
import subprocess
import sys
import tempfile

SECTOR = 512
CYLINDER = 16 * 63 * SECTOR  # Bochs wants whole ones
CHUNK = 64 * SECTOR  # what the boot sector reads at once
MOST = 0x80000  # what the boot sector can read below 640 KiB


def main():
    objcopy, kernel, bootsector, out = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory:
        flat = os.path.join(directory, "flat")
        subprocess.run([objcopy, "-S", "-O", "binary", kernel, flat], check=True)
        with open(flat, "rb") as file:
            body = file.read()
    with open(bootsector, "rb") as file:
        boot = bytearray(file.read())
    if len(boot) != SECTOR or len(body) > MOST:
        sys.exit(f"mkdisk: boot sector of {len(boot)} bytes, kernel of {len(body)}")
    boot[506:508] = struct.pack("<H", -(-len(body) // SECTOR))
    disk = bytes(boot) + bytes(SECTOR) + body + bytes(-len(body) % CHUNK)
    disk += bytes(-len(disk) % CYLINDER)
    with open(out, "wb") as file:
        file.write(disk)


main()
