/* SPDX-License-Identifier: MIT */
/* The forms of the self-test that are x86-64's alone (selftest_forms.c). */
long site_call_got(long x);
long site_tail_got(long x);
long site_conditional(long x);

#define CPU_FORMS                                                                            \
	{"call, relaxed from GOT", site_call_got, change_call, 2 * X, 3 * X, false},         \
		{"tail, relaxed from GOT", site_tail_got, change_call, 2 * X, 3 * X, false}, \
		{"conditional tail call", site_conditional, change_call, 2 * X, 3 * X, false},
#define BRANCH_FORM       "branch, 5 bytes"
#define SHORT_BRANCH_FORM "branch, 2 bytes"
