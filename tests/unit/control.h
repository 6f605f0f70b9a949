/* SPDX-License-Identifier: MIT */
/* Negative controls within a test (api/controls.py): what SHUNT_CONTROL names is taken out. */
#ifndef SHUNT_TESTS_UNIT_CONTROL_H
#define SHUNT_TESTS_UNIT_CONTROL_H

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static inline bool is_control(const char *name)
{
	const char *control = getenv("SHUNT_CONTROL");

	return control && !strcmp(control, name);
}

#endif
