/* SPDX-License-Identifier: MIT */
/* What a message tells as the cause (report.c); set where a system call fails. */
#include "linux/base/base.h"

__thread const char *shunt_failed_call;
