/* SPDX-License-Identifier: MIT */
#include "print_json.h"

#include <stdbool.h>
#include <stdio.h>

#include "shunt.h"

int tool_print_json(const char *what, json_t *root)
{
	bool good = root && !json_dumpf(root, stdout, JSON_INDENT(2)) && putchar('\n') != EOF;

	json_decref(root);
	if (!good && !ferror(stdout)) /* that is said at the end */
		tool_complain("%s: no memory", what);
	return good ? 0 : -1;
}
