#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the C sources of the programs with 100,000 sites.

gen_sites.py sites PART PARTS   functions full of static calls (sites_main.c)
gen_sites.py xray PART PARTS    as many functions as make 100,000 XRay sleds (xray_main.c)

To standard output. Each part is compiled on its own, to use all CPUs.
"""
import sys

SITES = 100_000
FUNCTIONS = 8192  # 2 KiB apart they make 16 MiB


def function(name, key, calls):
    return f"void ALIGN {name}(void){{{f'__SCT__{key}();' * calls}}}"


def sites(part, parts):
    """A function has 12 or 13 of the sites of the key sites_100000."""
    yield '#include "sites.h"'
    for i in range(part * FUNCTIONS // parts, (part + 1) * FUNCTIONS // parts):
        calls = (i + 1) * SITES // FUNCTIONS - i * SITES // FUNCTIONS
        yield function(f"sites_f{i}", "sites_100000", calls)
    if part == 0:
        yield function("sites_one", "sites_1", 1)
        yield function("sites_ten", "sites_10", 10)
        for i in range(100):
            yield function(f"sites_g{i}", "sites_1000", 10)


def xray(part, parts):
    """Each has two sleds, at its entry and its exit."""
    n = SITES // 2
    yield "extern volatile int xray_sink;"
    for i in range(part * n // parts, (part + 1) * n // parts):
        yield f"void xray_f{i}(void){{xray_sink={i};}}"


def main():
    what, part, parts = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    lines = {"sites": sites, "xray": xray}[what](part, parts)
    print("/* Written by gen_sites.py. */")
    print("\n".join(lines))


main()
