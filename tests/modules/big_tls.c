/* SPDX-License-Identifier: MIT */
/* A library with as much thread-local storage as libshunt must never have again. */
int *big_tls(void);

__thread int big[156] __attribute__((tls_model("initial-exec")));

int *big_tls(void)
{
	return big;
}
