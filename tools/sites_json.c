/* SPDX-License-Identifier: MIT */
/*
 * `shunt sites --json`: the field names and strings are a promise to scripts; addresses are
 * strings, because not every reader of JSON keeps 64 bits.
 */
#include <inttypes.h>

#include <jansson.h>

#include "print_json.h"
#include "sites_parts.h"
#include "unseen_exports.h"

#define JSON_VERSION 1 /* of the format: grows where a field changes its meaning or goes */

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
			 json_text(sites_initial_name(v, key)), "sites", (int)key->nr_sites);
}

static json_t *json_site(const struct view *v, const struct file_site *site)
{
	const char *why, *state = site_state(v->inv, &v->words, site, &why);
	uint64_t offset;
	const char *function = sites_function_of(v, site->addr, &offset);
	const struct file_key *key = inventory_key(v->inv, site->key);

	return json_pack("{s:o, s:o, s:o, s:o, s:I, s:s, s:i, s:b, s:b, s:s, s:o}", "address",
			 json_hex(site->addr), "key", json_name(key), "element", json_element(key),
			 "function", json_text(function), "offset", (json_int_t)offset, "kind",
			 inventory_kind_name(v->inv, site), "length", (int)sites_site_len(v, site),
			 "straddles_line", sites_straddles(v, site, SITES_LINE), "straddles_page",
			 sites_straddles(v, site, SITES_PAGE), "state", state, "why",
			 json_text(why));
}

static json_t *json_ref(const struct view *v, const struct file_ref *ref)
{
	uint64_t offset;
	const char *function = sites_function_of(v, ref->addr, &offset);

	const struct file_key *key = inventory_key(v->inv, ref->key);

	return json_pack("{s:o, s:o, s:o, s:o, s:I, s:s, s:o}", "address", json_hex(ref->addr),
			 "key", json_name(key), "element", json_element(key), "function",
			 json_text(function), "offset", (json_int_t)offset, "state",
			 sites_ref_state(v, ref), "why", json_text(ref->why));
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

int sites_show_json(const struct view *v)
{
	json_t *keys = json_array(), *sites = json_array(), *refs = json_array();
	json_t *root = NULL;
	bool good = json_lists(v, keys, sites, refs);

	if (good)
		root = json_pack("{s:i, s:o, s:b, s:o, s:O, s:O, s:O, s:b, s:o}", "version",
				 JSON_VERSION, "file", json_text(v->path), "baked", v->inv->baked,
				 "why", json_text(inventory_why_unknown(v->inv)), "keys", keys,
				 "sites", sites, "references", refs, "references_known",
				 !v->inv->refs_unknown, "unseen_exports",
				 unseen_exports_json(&v->inv->elf));
	json_decref(keys);
	json_decref(sites);
	json_decref(refs);
	return tool_print_json(v->path, root) ? 1 : 0;
}
