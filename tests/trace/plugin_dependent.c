/* SPDX-License-Identifier: MIT */
/* What plugin_copies.c loads: a plugin that needs another one (plugin_copy.c). */
int copy_list(void);

int dependent_list(void);
int dependent_list(void)
{
	return copy_list();
}
