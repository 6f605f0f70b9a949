/* SPDX-License-Identifier: MIT */
/* Which key a name stands for (key_names.h). A name may have colons itself. */
#include "linux/show/key_names.h"

#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "linux/base/format.h"
#include "linux/base/registry.h"

/* What a name is held against: a key, and in an array its index; -1: it is no element. */
struct candidate {
	const struct shunt_loaded *module;
	const char *type, *name;
	int element;
};

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The file name of @m's module; @room: for the program's own. */
static const char *module_path(const struct shunt_loaded *m, char *room, size_t size)
{
	ssize_t n;

	if (!m->path || strcmp(m->path, "/proc/self/exe") != 0)
		return m->path ? m->path : "";
	n = readlink(m->path, room, size - 1);
	if (n <= 0) /* the first thread has ended */
		n = readlink("/proc/thread-self/exe", room, size - 1);
	room[n > 0 ? n : 0] = '\0';
	return room;
}

/* What stands behind "PREFIX:"; NULL: it does not begin so. */
static const char *behind(const char *spec, const char *prefix)
{
	size_t len = strlen(prefix);

	return len && !strncmp(spec, prefix, len) && spec[len] == ':' ? spec + len + 1 : NULL;
}

/* NAME, which all elements of an array have, or NAME[INDEX]. */
static bool is_own_name(const char *spec, const struct candidate *c)
{
	size_t len = strlen(c->name);
	char index[16];

	if (strncmp(spec, c->name, len) != 0)
		return false;
	if (!spec[len])
		return true;
	shunt_format(index, sizeof(index), "[%d]", c->element);
	return c->element >= 0 && !strcmp(spec + len, index);
}

static bool is_typed_name(const char *spec, const struct candidate *c)
{
	const char *rest = behind(spec, c->type);

	return is_own_name(spec, c) || (rest && is_own_name(rest, c));
}

static bool is_named(const char *spec, const struct candidate *c)
{
	const char *path, *of_path, *of_file;
	char room[PATH_MAX];

	if (is_typed_name(spec, c))
		return true;
	if (!strchr(spec, ':'))
		return false;
	path = module_path(c->module, room, sizeof(room));
	of_path = behind(spec, path);
	of_file = behind(spec, base_name(path));
	return (of_path && is_typed_name(of_path, c)) || (of_file && is_typed_name(of_file, c));
}

static bool is_same_name(const struct shunt_static_key *key, const struct shunt_static_key *other)
{
	return !strcmp(key->name, other->name);
}

static void find_branches(struct shunt_found_key *found, const struct shunt_loaded *m,
			  const char *spec)
{
	struct shunt_static_key *first = m->module->static_keys;
	const struct shunt_static_key *end = m->module->static_keys_end;
	struct candidate c = {m, "branch", NULL, -1};

	/* Elements are neighbours. */
	for (struct shunt_static_key *key = first; key != end; key++) {
		bool goes_on = key + 1 != end && is_same_name(key, key + 1);

		c.element = key != first && is_same_name(key, key - 1) ? c.element + 1
			    : goes_on                                  ? 0
								       : -1;
		c.name = key->name;
		if (is_named(spec, &c) && !found->n++)
			found->branch = key;
	}
}

struct shunt_found_key shunt_find_key(const char *spec)
{
	struct shunt_found_key found = {0};

	for (struct shunt_loaded *m = shunt_first_loaded(); m; m = m->next) {
		const struct shunt_module *module = m->module;

		if (!module)
			continue;
		for (struct static_call_key *key = module->call_keys; key != module->call_keys_end;
		     key++) {
			const struct candidate c = {m, "call", key->name, -1};

			if (is_named(spec, &c) && !found.n++)
				found.call = key;
		}
		find_branches(&found, m, spec);
	}
	return found;
}
