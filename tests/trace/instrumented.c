/* SPDX-License-Identifier: MIT */
/* Compiled with -finstrument-functions, for namespaces.c. */
int instrumented(int x);
int instrumented(int x)
{
	return x + 1;
}
