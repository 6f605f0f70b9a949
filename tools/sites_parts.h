/* SPDX-License-Identifier: MIT */
/* What the files of `shunt sites` ask of each other. */
#ifndef SHUNT_TOOLS_SITES_PARTS_H
#define SHUNT_TOOLS_SITES_PARTS_H

#include "linux/elf/elf.h"
#include "site_state.h"

/* One file as it is shown. */
struct view {
	const char *path;
	const struct inventory *inv;
	struct shunt_elf_func_index functions;
	struct site_words words;
};

#define SITES_LINE 64u
#define SITES_PAGE 4096u

/* ------------------------------------------------------------------- sites_view.c */

/* The length of @site, and whether it crosses a border of @unit bytes. */
unsigned sites_site_len(const struct view *v, const struct file_site *site);
bool sites_straddles(const struct view *v, const struct file_site *site, unsigned unit);

/* What a key starts out with; NULL: that is not known. */
const char *sites_initial_name(const struct view *v, const struct file_key *key);

/* The function that @addr is in, and how far; NULL: none is known. */
const char *sites_function_of(const struct view *v, uint64_t addr, uint64_t *offset);

/* What becomes of what is no site: the one is a call, the other a branch. */
const char *sites_ref_state(const struct view *v, const struct file_ref *ref);

/* ------------------------------------------------------------------- sites_json.c */

/* The whole as JSON. 0; 1 where it could not be printed. */
int sites_show_json(const struct view *v);

#endif
