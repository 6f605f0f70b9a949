/* SPDX-License-Identifier: MIT */
/*
 * `shunt sites`: the static calls and static keys of an ELF file, and what will
 * become of each when the file is loaded: as tables, or as JSON, whose field names and strings are
 * a promise to scripts; addresses are strings, because not every reader of JSON keeps 64 bits.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elf.h>
#include <jansson.h>

#include "inventory.h"
#include "linux/elf/baked.h"
#include "options.h"
#include "print_json.h"
#include "shunt.h"
#include "site_state.h"
#include "trace_file.h"
#include "unseen_exports.h"

#define JSON_VERSION 1 /* of the format: grows where a field changes its meaning or goes */

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

/* One file as it is shown. */
struct view {
	const char *path;
	const struct inventory *inv;
	struct shunt_elf_func_index functions;
	struct site_words words;
};

#define LINE 64u
#define PAGE 4096u

static unsigned site_len(const struct view *v, const struct file_site *site)
{
	return shunt_elf_site_len(v->inv->elf.cpu, site->kind);
}

static bool straddles(const struct view *v, const struct file_site *site, unsigned unit)
{
	return site->addr % unit + site_len(v, site) > unit;
}

/* What a key starts out with; NULL: that is not known. */
static const char *initial_name(const struct view *v, const struct file_key *key)
{
	const char *symbol = NULL;
	uint64_t target = 0;

	if (key->is_branch)
		return key->imported ? NULL : key->flags ? "on" : "off";
	switch (inventory_initial(v->inv, key, &target, &symbol)) {
	case INITIAL_NULL:
		return "NULL";
	case INITIAL_RET0:
		return "RET0";
	case INITIAL_INTERPOSABLE:
	case INITIAL_FOREIGN:
		return symbol;
	case INITIAL_FUNCTION:
		symbol = shunt_elf_func_index_at(&v->functions, target, NULL);
		return symbol ? symbol : "(unnamed)";
	default:
		return NULL;
	}
}

/* "name", or "name[2]". */
static const char *key_name(const struct file_key *key, char *buf, size_t size)
{
	if (key->element < 0)
		(void)snprintf(buf, size, "%.*s", key->name_len, key->name);
	else
		(void)snprintf(buf, size, "%.*s[%d]", key->name_len, key->name, key->element);
	return buf;
}

static const char *function_of(const struct view *v, uint64_t addr, uint64_t *offset)
{
	uint64_t start = addr;
	const char *name = shunt_elf_func_index_at(&v->functions, addr, &start);

	*offset = addr - start;
	return name;
}

/* Why the calls of the file are not known; NULL: they are. */
static const char *why_calls_unknown(const struct inventory *inv)
{
	if (inv->rearranged)
		return inv->rearranged;
	if (inv->baked || inv->lack == SHUNT_ELF_LACKS_NOTHING)
		return NULL;
	for (size_t i = 0; i < inv->keys.n; i++)
		if (!inventory_key(inv, i)->is_branch &&
		    inventory_key(inv, i)->flags & STATIC_CALL_BAKED)
			return "was baked, but its table has been stripped "
			       "(keep it with --keep-section=" SHUNT_BAKED_SECTION ")";
	return shunt_elf_lack_text(inv->lack);
}

struct counts {
	size_t calls, branches, imported; /* keys; imported ones count as both */
	size_t call_sites, branch_sites, far, direct, line, page;
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
		const char *why;

		*(inventory_key(v->inv, site->key)->is_branch ? &c.branch_sites : &c.call_sites) +=
			1;
		c.far += site_state(v->inv, &v->words, site, &why) == site_may_be_far;
		c.direct += site->direct;
		c.line += straddles(v, site, LINE);
		c.page += straddles(v, site, PAGE);
	}
	return c;
}

/* ----------------------------------------------------------------------------- JSON */

static json_t *json_hex(uint64_t value)
{
	return json_sprintf("0x%" PRIx64, value);
}

/* A string, or null; what is not UTF-8 in the file becomes null too. */
static json_t *json_text(const char *text)
{
	json_t *string = text ? json_string(text) : NULL;

	return string ? string : json_null();
}

static json_t *json_name(const struct file_key *key)
{
	json_t *string = json_stringn(key->name, (size_t)key->name_len);

	return string ? string : json_null();
}

static json_t *json_element(const struct file_key *key)
{
	return key->element < 0 ? json_null() : json_integer(key->element);
}

static json_t *json_key(const struct view *v, const struct file_key *key)
{
	return json_pack("{s:o, s:o, s:s, s:s, s:o, s:o, s:i}", "name", json_name(key), "element",
			 json_element(key), "type", key->is_branch ? "static key" : "static call",
			 "defined", key->imported ? "imported" : "here", "address",
			 key->imported ? json_null() : json_hex(key->addr), "initial",
			 json_text(initial_name(v, key)), "sites", (int)key->nr_sites);
}

static json_t *json_site(const struct view *v, const struct file_site *site)
{
	const char *why, *state = site_state(v->inv, &v->words, site, &why);
	uint64_t offset;
	const char *function = function_of(v, site->addr, &offset);
	const struct file_key *key = inventory_key(v->inv, site->key);

	return json_pack("{s:o, s:o, s:o, s:o, s:I, s:s, s:i, s:b, s:b, s:s, s:o}", "address",
			 json_hex(site->addr), "key", json_name(key), "element", json_element(key),
			 "function", json_text(function), "offset", (json_int_t)offset, "kind",
			 inventory_kind_name(v->inv, site), "length", (int)site_len(v, site),
			 "straddles_line", straddles(v, site, LINE), "straddles_page",
			 straddles(v, site, PAGE), "state", state, "why", json_text(why));
}

static json_t *json_ref(const struct view *v, const struct file_ref *ref)
{
	uint64_t offset;
	const char *function = function_of(v, ref->addr, &offset);

	return json_pack("{s:o, s:o, s:o, s:I, s:s, s:s}", "address", json_hex(ref->addr), "key",
			 json_name(inventory_key(v->inv, ref->key)), "function",
			 json_text(function), "offset", (json_int_t)offset, "state", "trampoline",
			 "why", ref->why);
}

/* Add @item, which it takes over, to @array; false where either could not be made. */
static bool json_add(json_t *array, json_t *item)
{
	return item && !json_array_append_new(array, item);
}

static bool json_lists(const struct view *v, json_t *keys, json_t *sites, json_t *refs)
{
	bool good = keys && sites && refs;

	for (size_t i = 0; i < v->inv->keys.n && good; i++)
		if (!inventory_key(v->inv, i)->own)
			good = json_add(keys, json_key(v, inventory_key(v->inv, i)));
	for (size_t i = 0; i < v->inv->sites.n && good; i++)
		good = json_add(sites, json_site(v, inventory_site(v->inv, i)));
	for (size_t i = 0; i < v->inv->refs.n && good; i++)
		good = json_add(refs, json_ref(v, inventory_ref(v->inv, i)));
	return good;
}

static int show_json(const struct view *v)
{
	json_t *keys = json_array(), *sites = json_array(), *refs = json_array();
	json_t *root = NULL;
	bool good = json_lists(v, keys, sites, refs);

	if (good)
		root = json_pack("{s:i, s:o, s:b, s:o, s:O, s:O, s:O, s:o}", "version",
				 JSON_VERSION, "file", json_text(v->path), "baked", v->inv->baked,
				 "why", json_text(why_calls_unknown(v->inv)), "keys", keys, "sites",
				 sites, "references", refs, "unseen_exports",
				 unseen_exports_json(&v->inv->elf));
	json_decref(keys);
	json_decref(sites);
	json_decref(refs);
	return tool_print_json(v->path, root) ? 1 : 0;
}

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
		const char *initial = initial_name(v, key);

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
	const char *function = function_of(v, addr, &offset);

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
			     straddles(v, site, PAGE)   ? "page"
			     : straddles(v, site, LINE) ? "line"
							: "-",
			     state, shown_key(key, name, sizeof(name)), why ? ": " : "",
			     why ? why : "");
	}
}

static void show_refs(const struct view *v)
{
	char buf[256], name[256];

	for (size_t i = 0; i < v->inv->refs.n; i++) {
		const struct file_ref *ref = inventory_ref(v->inv, i);
		const struct file_key *key = inventory_key(v->inv, ref->key);

		if (i == 0)
			(void)printf("\nNot sites, and so on the trampoline for good:\n");
		(void)printf("%#-12" PRIx64 " %-28s %s: %s\n", ref->addr,
			     describe_address(v, ref->addr, buf, sizeof(buf)),
			     shown_key(key, name, sizeof(name)), ref->why);
	}
}

static void show_summary(const struct view *v)
{
	struct counts c = count(v);

	(void)printf("\n%s: %zu static call%s, %zu static key%s (%zu imported); %zu call site%s, "
		     "%zu branch%s; %zu cross a cache line, %zu a page; %zu may be far; %zu other "
		     "reference%s\n",
		     v->path, c.calls, tool_plural(c.calls), c.branches, tool_plural(c.branches),
		     c.imported, c.call_sites, tool_plural(c.call_sites), c.branch_sites,
		     c.branch_sites == 1 ? "" : "es", c.line, c.page, c.far, v->inv->refs.n,
		     tool_plural(v->inv->refs.n));
	if (v->inv->baked)
		(void)printf("%s: baked; %zu with the direct call\n", v->path, c.direct);
	if (why_calls_unknown(v->inv))
		(void)printf("%s: %s: the sites of its calls%s are not known\n", v->path,
			     why_calls_unknown(v->inv), v->inv->rearranged ? " and branches" : "");
	unseen_exports_show(&v->inv->elf, v->path);
}

/* --check: what is not inline. */

static size_t check_sites(const struct view *v, bool quiet)
{
	char buf[256], name[256];
	size_t found = 0;

	for (size_t i = 0; i < v->inv->sites.n; i++) {
		const struct file_site *site = inventory_site(v->inv, i);
		const char *why, *state = site_state(v->inv, &v->words, site, &why);

		if (state != site_may_be_far)
			continue;
		found++;
		if (!quiet)
			(void)printf(
				"%s: %s: %s: %s: %s\n", v->path,
				describe_address(v, site->addr, buf, sizeof(buf)),
				shown_key(inventory_key(v->inv, site->key), name, sizeof(name)),
				state, why);
	}
	return found;
}

static size_t check_references(const struct view *v, bool quiet)
{
	char buf[256], name[256];

	for (size_t i = 0; i < v->inv->refs.n && !quiet; i++) {
		const struct file_ref *ref = inventory_ref(v->inv, i);
		const struct file_key *key = inventory_key(v->inv, ref->key);

		(void)printf("%s: %s: %s: trampoline: %s\n", v->path,
			     describe_address(v, ref->addr, buf, sizeof(buf)),
			     shown_key(key, name, sizeof(name)), ref->why);
	}
	return v->inv->refs.n;
}

/* A file without static calls, and without relocations, lacks nothing. */
static size_t check_knowledge(const struct view *v, bool quiet)
{
	struct counts c = count(v);
	const char *why = why_calls_unknown(v->inv);

	if (!why || (!c.calls && !(v->inv->rearranged && c.branches)))
		return 0;
	if (!quiet)
		(void)printf("%s: all static calls: trampoline: %s\n", v->path, why);
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
		ret = show_json(v);
	} else if (!wish->check) {
		show_keys(v);
		show_sites(v);
		show_refs(v);
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
		tool_complain("%s: %s", path, tool_why(ret, NULL));
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
