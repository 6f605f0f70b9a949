/* SPDX-License-Identifier: MIT */
/* The forms of the self-test that are aarch64's alone (selftest_forms.c). */
#define CPU_FORMS
#define BRANCH_FORM       "branch, off at first"
#define SHORT_BRANCH_FORM "branch, on at first"
