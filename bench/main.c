/* SPDX-License-Identifier: MIT */
/* The benchmark as a program of its own: what `shunt bench` is in the tool. */
#include "bench.h"

int main(int argc, char **argv)
{
	return cmd_bench(argc, argv);
}
