/* SPDX-License-Identifier: MIT */
/*
 * `shunt sites`: the static calls and static keys of an ELF file, and what will
 * become of each when the file is loaded: as tables, and what --check says. As JSON: sites_json.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "linux/elf/baked.h"
#include "options.h"
#include "shunt.h"
#include "sites_parts.h"
#include "trace_file.h"
#include "unseen_exports.h"

#define USAGE                                                                              \
	"sites [--json] [--check] FILE\n"                                                  \
	"List FILE's static calls and static keys, their sites, and which of these will\n" \
	"be direct calls when FILE is loaded.\n"                                           \
	"\n"                                                                               \
	"  -c, --check  list those alone that will not, and why; exit status 1 if there\n" \
	"               are any\n"                                                         \
	"  -j, --json   an object of JSON\n"                                               \
	"  -h, --help   say this\n"                                                        \
	"\n"                                                                               \
	"examples:\n"                                                                      \
	"  shunt sites ./program\n"                                                        \
	"  shunt sites --check --json ./plugin.so"

struct wish {
	bool json, check;
};

/* "name", or "name[2]". */
static const char *key_name(const struct file_key *key, char *buf, size_t size)
{
	if (key->element < 0)
		(void)snprintf(buf, size, "%.*s", key->name_len, key->name);
	else
		(void)snprintf(buf, size, "%.*s[%d]", key->name_len, key->name, key->element);
	return buf;
}

struct counts {
	size_t calls, branches, imported; /* keys; imported ones count as both */
	size_t call_sites, branch_sites, far, direct, foreign, line, page;
};

static struct counts count(const struct view *v)
{
	struct counts c = {0};

	for (size_t i = 0; i < v->inv->keys.n; i++) {
		const struct file_key *key = inventory_key(v->inv, i);

		if (key->own)
			continue;
		*(key->is_branch ? &c.branches : &c.calls) += 1;
		c.imported += key->imported;
	}
	for (size_t i = 0; i < v->inv->sites.n; i++) {
		const struct file_site *site = inventory_site(v->inv, i);
		const char *why, *state = site_state(v->inv, &v->words, site, &why);

		*(inventory_key(v->inv, site->key)->is_branch ? &c.branch_sites : &c.call_sites) +=
			1;
		c.far += state == site_may_be_far;
		c.direct += state == site_baked;
		c.foreign += state == site_foreign;
		c.line += sites_straddles(v, site, SITES_LINE);
		c.page += sites_straddles(v, site, SITES_PAGE);
	}
	return c;
}

static const char baked_without_list[] =
	"baked by an earlier shunt, without a list of what is not a site: calls may be on their "
	"trampolines for good (bake the file as linked again)";

/* --------------------------------------------------------------------------- tables */

/* Names in a file may have control characters, which a terminal must not see. */
static const char *shown_key(const struct file_key *key, char *buf, size_t size)
{
	(void)key_name(key, buf, size);
	return trace_make_printable(buf);
}

static void show_keys(const struct view *v)
{
	char buf[256], value[256];

	(void)printf("%-28s %-11s %-8s %-24s %6s\n", "KEY", "TYPE", "DEFINED", "INITIAL", "SITES");
	for (size_t i = 0; i < v->inv->keys.n; i++) {
		const struct file_key *key = inventory_key(v->inv, i);
		const char *initial = sites_initial_name(v, key);

		if (key->own)
			continue;
		(void)snprintf(value, sizeof(value), "%s", initial ? initial : "-");
		(void)printf("%-28s %-11s %-8s %-24s %6" PRIu32 "\n",
			     shown_key(key, buf, sizeof(buf)),
			     key->is_branch ? "static key" : "static call",
			     key->imported ? "imported" : "here", trace_make_printable(value),
			     key->nr_sites);
	}
}

/* "function+0x12", or "-". */
static const char *describe_address(const struct view *v, uint64_t addr, char *buf, size_t size)
{
	uint64_t offset;
	const char *function = sites_function_of(v, addr, &offset);

	if (!function)
		return "-";
	(void)snprintf(buf, size, "%s+0x%" PRIx64, function, offset);
	return trace_make_printable(buf);
}

static void show_sites(const struct view *v)
{
	char buf[256], name[256];

	if (!v->inv->sites.n)
		return;
	(void)printf("\n%-12s %-28s %-12s %-6s %-10s %s\n", "ADDRESS", "IN", "KIND", "CROSS",
		     "STATE", "KEY");
	for (size_t i = 0; i < v->inv->sites.n; i++) {
		const struct file_site *site = inventory_site(v->inv, i);
		const struct file_key *key = inventory_key(v->inv, site->key);
		const char *why, *state = site_state(v->inv, &v->words, site, &why);

		(void)printf("%#-12" PRIx64 " %-28s %-12s %-6s %-10s %s%s%s\n", site->addr,
			     describe_address(v, site->addr, buf, sizeof(buf)),
			     inventory_kind_name(v->inv, site),
			     sites_straddles(v, site, SITES_PAGE)   ? "page"
			     : sites_straddles(v, site, SITES_LINE) ? "line"
								    : "-",
			     state, shown_key(key, name, sizeof(name)), why ? ": " : "",
			     why ? why : "");
	}
}

/* The file may say why, in what has been baked. */
static const char *shown_why(const struct file_ref *ref, char *buf, size_t size)
{
	(void)snprintf(buf, size, "%s", ref->why);
	return trace_make_printable(buf);
}

static size_t show_refs_of(const struct view *v, bool branches, const char *title)
{
	char buf[256], name[256], why[SHUNT_BAKED_MAX_WHY];
	size_t n = 0;

	for (size_t i = 0; i < v->inv->refs.n; i++) {
		const struct file_ref *ref = inventory_ref(v->inv, i);
		const struct file_key *key = inventory_key(v->inv, ref->key);

		if (key->is_branch != branches)
			continue;
		if (n++ == 0)
			(void)printf("\n%s:\n", title);
		(void)printf("%#-12" PRIx64 " %-28s %s: %s\n", ref->addr,
			     describe_address(v, ref->addr, buf, sizeof(buf)),
			     shown_key(key, name, sizeof(name)), shown_why(ref, why, sizeof(why)));
	}
	return n;
}

static void show_unknown(const struct view *v)
{
	const char *why = inventory_why_unknown(v->inv);
	size_t stuck = 0;

	for (size_t i = 0; i < v->inv->keys.n; i++)
		stuck += inventory_is_stuck(v->inv, inventory_key(v->inv, i));
	if (why)
		(void)printf("%s: %s: %s are not known\n", v->path, why,
			     v->inv->untold       ? "its keys and their sites"
			     : v->inv->rearranged ? "the sites of its calls and branches"
						  : "the sites of its calls");
	if (stuck)
		(void)printf("%s: %zu key%s whose calls hold the direct call that was baked, and "
			     "cannot be updated\n",
			     v->path, stuck, tool_plural(stuck));
}

static void show_summary(const struct view *v)
{
	struct counts c = count(v);
	size_t refs = show_refs_of(v, false, "Not sites, and so on the trampoline for good");
	size_t branches =
		show_refs_of(v, true, "Static branches that are no sites, and never change");

	(void)printf("\n%s: %zu static call%s, %zu static key%s (%zu imported); %zu call site%s, "
		     "%zu branch%s; %zu cross a cache line, %zu a page; %zu may be far; %zu other "
		     "reference%s\n",
		     v->path, c.calls, tool_plural(c.calls), c.branches, tool_plural(c.branches),
		     c.imported, c.call_sites, tool_plural(c.call_sites), c.branch_sites,
		     c.branch_sites == 1 ? "" : "es", c.line, c.page, c.far, refs,
		     tool_plural(refs));
	if (branches)
		(void)printf("%s: %zu static branch%s that never change%s\n", v->path, branches,
			     branches == 1 ? "" : "es", branches == 1 ? "s" : "");
	if (v->inv->refs_unknown)
		(void)printf("%s: %s\n", v->path, baked_without_list);
	if (v->inv->baked)
		(void)printf("%s: baked; %zu with the direct call\n", v->path, c.direct);
	if (c.foreign)
		(void)printf("%s: %zu site%s with other bytes than baking has left\n", v->path,
			     c.foreign, tool_plural(c.foreign));
	show_unknown(v);
	unseen_exports_show(&v->inv->elf, v->path);
}

/* --check: what is not inline. */

/* Where @addr is: in a stripped file, where no function is known, the address itself. */
static const char *place(const struct view *v, uint64_t addr, char *buf, size_t size)
{
	uint64_t offset;

	if (sites_function_of(v, addr, &offset))
		return describe_address(v, addr, buf, size);
	(void)snprintf(buf, size, "%#" PRIx64, addr);
	return buf;
}

static size_t check_sites(const struct view *v, bool quiet)
{
	char buf[256], name[256];
	size_t found = 0;

	for (size_t i = 0; i < v->inv->sites.n; i++) {
		const struct file_site *site = inventory_site(v->inv, i);
		const char *why, *state = site_state(v->inv, &v->words, site, &why);

		if (state != site_may_be_far && state != site_foreign)
			continue;
		found++;
		if (!quiet)
			(void)printf(
				"%s: %s: %s: %s: %s\n", v->path,
				place(v, site->addr, buf, sizeof(buf)),
				shown_key(inventory_key(v->inv, site->key), name, sizeof(name)),
				state, why);
	}
	return found;
}

static size_t check_references(const struct view *v, bool quiet)
{
	char buf[256], name[256], why[SHUNT_BAKED_MAX_WHY];

	for (size_t i = 0; i < v->inv->refs.n && !quiet; i++) {
		const struct file_ref *ref = inventory_ref(v->inv, i);
		const struct file_key *key = inventory_key(v->inv, ref->key);

		(void)printf("%s: %s: %s: %s: %s\n", v->path, place(v, ref->addr, buf, sizeof(buf)),
			     shown_key(key, name, sizeof(name)), sites_ref_state(v, ref),
			     shown_why(ref, why, sizeof(why)));
	}
	if (v->inv->refs_unknown && !quiet)
		(void)printf("%s: %s\n", v->path, baked_without_list);
	return v->inv->refs.n + v->inv->refs_unknown;
}

/* The keys whose baked calls nobody can change; how many there are. */
static size_t check_stuck(const struct view *v, bool quiet)
{
	char name[256];
	size_t found = 0;

	for (size_t i = 0; i < v->inv->keys.n; i++) {
		const struct file_key *key = inventory_key(v->inv, i);

		if (!inventory_is_stuck(v->inv, key))
			continue;
		found++;
		if (!quiet)
			(void)printf("%s: %s: baked: cannot be updated: %s\n", v->path,
				     shown_key(key, name, sizeof(name)),
				     inventory_why_unknown(v->inv));
	}
	return found;
}

/* A file without static calls, and without relocations, lacks nothing. */
static size_t check_knowledge(const struct view *v, bool quiet)
{
	struct counts c = count(v);
	const char *why = inventory_why_unknown(v->inv);
	size_t stuck;

	if (v->inv->untold) {
		if (!quiet)
			(void)printf("%s: all keys: not known: %s\n", v->path, why);
		return 1;
	}
	if (!why || (!inventory_makes_calls(v->inv) && !(v->inv->rearranged && c.branches)))
		return 0;
	stuck = check_stuck(v, quiet);
	if (!quiet && (!stuck || stuck < c.calls))
		(void)printf("%s: all %sstatic calls: trampoline: %s\n", v->path,
			     stuck ? "other " : "", why);
	return 1;
}

/* Says what is not inline, unless @quiet; 1 where there is any. */
static int check(const struct view *v, bool quiet)
{
	size_t n = check_knowledge(v, quiet) + check_sites(v, quiet) + check_references(v, quiet);

	return n ? 1 : 0;
}

static int show(struct view *v, const struct wish *wish)
{
	int ret = shunt_elf_func_index_build(&v->functions, &v->inv->elf);

	if (ret) {
		tool_complain("%s: %s", v->path, strerror(-ret));
		return 1;
	}
	site_words(&v->words, v->inv->elf.cpu);
	if (wish->json) {
		ret = sites_show_json(v);
	} else if (!wish->check) {
		show_keys(v);
		show_sites(v);
		show_summary(v);
	}
	if (!ret && wish->check)
		ret = check(v, wish->json);
	shunt_elf_func_index_free(&v->functions);
	return ret;
}

static int sites(const char *path, const struct wish *wish)
{
	struct inventory inv;
	struct view v = {.path = path, .inv = &inv};
	void *image;
	size_t size;
	int ret = tool_read_file(path, &image, &size);

	if (ret) {
		tool_complain("%s: %s", path, tool_why(ret, NULL));
		return 1;
	}
	ret = inventory_open(&inv, image, size);
	if (ret)
		tool_complain("%s: %s", path, tool_why(ret, inv.why));
	else
		ret = show(&v, wish);
	inventory_close(&inv);
	free(image);
	return ret ? 1 : 0;
}

int cmd_sites(int argc, char **argv)
{
	struct wish wish = {false, false};
	const struct tool_option options[] = {
		{"json", 'j', NULL, &wish.json}, {"check", 'c', NULL, &wish.check}, {0}};
	int status;
	const char *path = tool_parse(argc, argv, USAGE, options, &status);

	return path ? sites(path, &wish) : status;
}
