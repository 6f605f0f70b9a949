/* SPDX-License-Identifier: MIT */
/* What tells keys of one name apart (remote_keys.h), as shunt_set_keys(3) has it. */
#include "remote_keys.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "remote.h"
#include "trace_file.h"

struct remote_key {
	char *name; /* as it was defined; in the end as `shunt set` takes it */
	char *module;
	size_t order;
	bool is_branch;
	int element; /* of an array; -1: of none */
	bool needs_type, needs_file, needs_path;
};

static bool is_neighbour(const struct remote_key *key, const struct remote_key *next)
{
	return next->order == key->order + 1 && next->is_branch == key->is_branch &&
	       !strcmp(next->name, key->name) && !strcmp(next->module, key->module);
}

static int by_name(const void *left, const void *right)
{
	const struct remote_key *a = left, *b = right;
	int order = strcmp(a->name, b->name);

	return order ? order : (a->order > b->order) - (a->order < b->order);
}

static int by_order(const void *left, const void *right)
{
	const struct remote_key *a = left, *b = right;

	return (a->order > b->order) - (a->order < b->order);
}

/* The elements of an array, or one key: how many, of the @n from @keys on. */
static size_t length_of_array(const struct remote_key *keys, size_t n)
{
	size_t length = 1;

	while (keys->is_branch && length < n && is_neighbour(&keys[length - 1], &keys[length]))
		length++;
	return length;
}

static void tell_apart(struct remote_key *key, const struct remote_key *other)
{
	bool is_same = !strcmp(key->module, other->module);

	if (is_same) {
		key->needs_type = key->needs_type || key->is_branch != other->is_branch;
		return;
	}
	key->needs_file = true;
	key->needs_path = key->needs_path ||
			  !strcmp(trace_base_name(key->module), trace_base_name(other->module));
}

/* @n keys of one name. */
static void tell_all_apart(struct remote_key *keys, size_t n)
{
	for (size_t i = 0, length; i < n; i += length) {
		length = length_of_array(keys + i, n - i);
		for (size_t j = 0; j < n; j += length_of_array(keys + j, n - j))
			tell_apart(&keys[i], &keys[j]);
		for (size_t j = 0; j < length; j++) {
			keys[i + j].element = length > 1 ? (int)j : -1;
			keys[i + j].needs_type = keys[i].needs_type;
			keys[i + j].needs_file = keys[i].needs_file;
			keys[i + j].needs_path = keys[i].needs_path;
		}
	}
}

static bool make_name(struct remote_key *key)
{
	const char *module = key->needs_path   ? key->module
			     : key->needs_file ? trace_base_name(key->module)
					       : "";
	const char *type = !key->needs_type ? "" : key->is_branch ? "branch:" : "call:";
	char index[16] = "", *name;

	if (key->element >= 0)
		(void)snprintf(index, sizeof(index), "[%d]", key->element);
	if (asprintf(&name, "%s%s%s%s%s", module, *module ? ":" : "", type, key->name, index) < 0)
		return false;
	free(key->name);
	key->name = name;
	return true;
}

static int name_all(struct remote_keys *keys)
{
	size_t n = 0;

	qsort(keys->keys, keys->n, sizeof(*keys->keys), by_name);
	for (size_t i = 0; i < keys->n; i += n) {
		for (n = 1; i + n < keys->n && !strcmp(keys->keys[i].name, keys->keys[i + n].name);)
			n++;
		tell_all_apart(keys->keys + i, n);
	}
	qsort(keys->keys, keys->n, sizeof(*keys->keys), by_order);
	for (size_t i = 0; i < keys->n; i++)
		if (!make_name(&keys->keys[i]))
			return -ENOMEM;
	return 0;
}

static bool add_key(struct remote_keys *keys, size_t *max, char **words)
{
	struct remote_key *more = keys->keys;

	if (keys->n == *max) {
		*max = *max ? 2 * *max : 64;
		more = realloc(more, *max * sizeof(*more));
		if (!more)
			return false;
		keys->keys = more;
	}
	more[keys->n] = (struct remote_key){.name = strdup(words[KEY_NAME]),
					    .module = strdup(words[KEY_MODULE]),
					    .order = keys->n,
					    .is_branch = !strcmp(words[KEY_TYPE], "branch")};
	keys->n++;
	return more[keys->n - 1].name && more[keys->n - 1].module;
}

int remote_keys_read(struct remote_keys *keys, const char *reply)
{
	char *copy = strdup(reply), *at = copy;
	struct remote_line line = {0};
	int more = copy ? 1 : -ENOMEM;
	size_t max = 0;

	*keys = (struct remote_keys){0};
	while (more > 0 && (more = remote_next_line(&at, &line)) > 0)
		if (!strcmp(line.words[0], "key") && !add_key(keys, &max, line.words))
			more = -ENOMEM;
	remote_line_free(&line);
	free(copy);
	return more || !keys->n ? more : name_all(keys);
}

void remote_keys_free(struct remote_keys *keys)
{
	for (size_t i = 0; i < keys->n; i++) {
		free(keys->keys[i].name);
		free(keys->keys[i].module);
	}
	free(keys->keys);
	*keys = (struct remote_keys){0};
}

const char *remote_keys_name(const struct remote_keys *keys, size_t i)
{
	return keys->keys[i].name;
}
