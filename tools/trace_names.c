/* SPDX-License-Identifier: MIT */
/*
 * The names in a trace file: which function an entry is, and how it is shown. A name may hold
 * anything: no escape sequence of a terminal, no markup and no broken UTF-8 gets past here.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdio.h>

#include <jansson.h>
#ifdef SHUNT_HAVE_LIBIBERTY
#include <libiberty/demangle.h>
#endif

#include "trace_file.h"
#include "trace_names.h"

/* ------------------------------------------------------------------------- printable */

size_t trace_utf8_length(const char *from, size_t size)
{
	const unsigned char *text = (const unsigned char *)from;
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = text[0] < 0x80   ? 1
		   : text[0] < 0xc2 ? 0
		   : text[0] < 0xe0 ? 2
		   : text[0] < 0xf0 ? 3
		   : text[0] < 0xf5 ? 4
				    : 0;
	uint32_t c = n < 2 ? text[0] : text[0] & (0x7fu >> n);

	if (n > size)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (text[i] & 0x3f);
	}
	return n > 1 && (c < least[n] || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff) ? 0 : n;
}

/* The character of @n bytes at @from. */
static bool is_control(const char *from, size_t n)
{
	uint32_t c = n == 1 ? (unsigned char)*from : (unsigned char)*from & (0x7fu >> n);

	for (size_t i = 1; i < n; i++)
		c = c << 6 | ((unsigned char)from[i] & 0x3f);
	/* Control characters, those of Unicode and its marks of direction and lines among them. */
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200b && c <= 0x200f) ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

char *trace_printable(const char *text, size_t size)
{
	char *copy = malloc(size + 1), *to = copy;

	if (!copy)
		return NULL;
	for (size_t i = 0; i < size;) {
		size_t n = trace_utf8_length(text + i, size - i);

		if (n && is_control(text + i, n))
			n = 0;
		if (n)
			to = mempcpy(to, text + i, n);
		else
			*to++ = '?';
		i += n ? n : 1;
	}
	*to = '\0';
	return copy;
}

/* It gets no longer. */
char *trace_make_printable(char *text)
{
	size_t size = strlen(text);
	char *copy = size ? trace_printable(text, size) : NULL;

	if (copy)
		memcpy(text, copy, strlen(copy) + 1);
	else if (size)
		text[0] = '\0';
	free(copy);
	return text;
}

char *trace_json_string(const char *text)
{
	json_t *string = json_string(text);
	char *json = string ? json_dumps(string, JSON_ENCODE_ANY) : NULL;
	char *safe = json ? malloc(6 * strlen(json) + 1) : NULL, *to = safe;

	/* "</script>" would end the page's data. */
	for (const char *from = json; safe && *from; from++)
		if (*from == '<' || *from == '>' || *from == '&')
			to += sprintf(to, "\\u%04x", (unsigned int)*from);
		else
			*to++ = *from;
	if (safe)
		*to = '\0';
	free(json);
	json_decref(string);
	return safe;
}

const char *trace_base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* ------------------------------------------------------------------------- demangled */

#define LONGEST 16384u /* bytes of a demangled name: some mangled ones stand for gigabytes */

struct demangled {
	jmp_buf too_long;
	size_t n;
	char text[LONGEST];
};

#ifdef SHUNT_HAVE_LIBIBERTY
static void add_text(const char *text, size_t size, void *opaque)
{
	struct demangled *d = opaque;

	/* The demangler has its memory on the stack. */
	if (size > LONGEST - d->n)
		longjmp(d->too_long, 1);
	memcpy(d->text + d->n, text, size);
	d->n += size;
}
#endif

char *trace_demangle(const char *symbol)
{
	static struct demangled d;

	d.n = 0;
	if (strncmp(symbol, "_Z", 2) || setjmp(d.too_long))
		return NULL;
#ifdef SHUNT_HAVE_LIBIBERTY
	if (!cplus_demangle_v3_callback(symbol, DMGL_PARAMS | DMGL_ANSI, add_text, &d))
		return NULL;
#endif
	return d.n ? trace_printable(d.text, d.n) : NULL;
}

const char *trace_function_name(struct trace_file *f, uint32_t function)
{
	struct file_function *fn = trace_function(f, function);
	const char *module = trace_base_name(fn->module);

	if (fn->name)
		return fn->name;
	if (*fn->symbol)
		fn->name = trace_demangle(fn->symbol);
	else if (asprintf(&fn->name, "%s%s0x%" PRIx64, module, *module ? "+" : "", fn->addr) < 0)
		fn->name = NULL;
	if (!fn->name)
		fn->name = strdup(fn->symbol);
	return fn->name ? fn->name : "?";
}

const char *trace_function_json(struct trace_file *f, uint32_t function)
{
	struct file_function *fn = trace_function(f, function);

	if (!fn->json)
		fn->json = trace_json_string(trace_function_name(f, function));
	return fn->json ? fn->json : "\"?\"";
}

const char *trace_function_module(const struct trace_file *f, uint32_t function)
{
	return trace_function(f, function)->module;
}

/* ------------------------------------------------------------------------- functions */

/* FNV-1a. */
static uint64_t add_to_key(uint64_t key, const void *data, size_t size)
{
	const unsigned char *byte = data;

	while (size--)
		key = (key ^ *byte++) * 0x100000001b3u;
	return key;
}

/* What a function is told from others by. */
struct identity {
	const char *path, *symbol; /* printable */
	uint64_t addr;
	const uint8_t *build_id; /* of its module */
	uint32_t build_id_len;   /* 0: not known */
};

static bool same_function(const struct file_function *fn, const struct identity *id, bool any_build)
{
	return fn->addr == id->addr && !strcmp(fn->symbol, id->symbol) &&
	       !strcmp(fn->module, id->path) &&
	       (any_build || (fn->build_id_len == id->build_id_len &&
			      !memcmp(fn->build_id, id->build_id, id->build_id_len)));
}

/*
 * Where the number of such a function stands, or 0: of this build alone, or of the first one that
 * was seen of any build. NULL: no memory.
 */
static uint32_t *place_of(struct trace_file *f, const struct identity *id, bool any_build)
{
	uint64_t key = add_to_key(0xcbf29ce484222325u, &id->addr, sizeof(id->addr));
	uint32_t *number;

	if (!any_build)
		key = add_to_key(key, id->build_id, id->build_id_len);
	key = add_to_key(key, id->path, strlen(id->path) + 1);
	key = add_to_key(key, id->symbol, strlen(id->symbol));
	/* Another function of the same key has the next one. */
	do
		number = hash_at(&f->function_keys, key++);
	while (number && *number && !same_function(trace_function(f, *number - 1), id, any_build));
	return number;
}

static void set_build(struct file_function *fn, const struct identity *id)
{
	fn->build_id_len = id->build_id_len;
	memcpy(fn->build_id, id->build_id, id->build_id_len);
}

static uint32_t new_function(struct trace_file *f, const struct identity *id)
{
	struct file_function fn = {
		.symbol = strdup(id->symbol), .module = strdup(id->path), .addr = id->addr};

	set_build(&fn, id);
	if (f->functions.n < TRACE_NONE - 1 && fn.symbol && fn.module &&
	    array_add(&f->functions, &fn, sizeof(fn)))
		return (uint32_t)f->functions.n;
	free(fn.module);
	free(fn.symbol);
	return 0;
}

/*
 * The number of @id's function, + 1; 0: no memory. Builds are compared where both are known: one
 * that was seen without its build is the next one's that is known.
 */
static uint32_t find_function(struct trace_file *f, const struct identity *id)
{
	uint32_t *place = place_of(f, id, true), any;
	struct file_function *first;

	if (!place)
		return 0;
	if (!*place)
		return *place = new_function(f, id);
	any = *place;
	if (!id->build_id_len)
		return any;
	place = place_of(f, id, false);
	if (!place || *place)
		return place ? *place : 0;
	first = trace_function(f, any - 1);
	if (!first->build_id_len)
		set_build(first, id);
	return *place = same_function(first, id, false) ? any : new_function(f, id);
}

uint32_t trace_add_function(struct trace_file *f, const struct file_module *module, uint64_t offset,
			    const char *symbol)
{
	char *printable = trace_printable(symbol, strlen(symbol));
	struct identity id = {
		.path = module ? module->path : "", .symbol = printable, .addr = offset};
	uint32_t number;

	if (!printable)
		return TRACE_NONE;
	id.build_id = module ? module->raw.build_id : (const uint8_t *)"";
	id.build_id_len = module ? module->raw.build_id_len : 0;
	number = find_function(f, &id);
	free(printable);
	return number ? number - 1 : TRACE_NONE;
}

#define MOST_LOADS 64 /* at one address: so many are told apart, and time stays linear */

/* The latest of those at this address whose module was there at @ticks; else the first one. */
uint32_t trace_function_at(struct trace_file *f, uint64_t address, uint64_t ticks)
{
	const struct file_entry *entries = f->entries.data;
	uint32_t i = hash_get(&f->entry_addresses, address);

	if (!i)
		return trace_add_function(f, NULL, address, "");
	i--;
	for (int n = 0;
	     n < MOST_LOADS && entries[i].loaded > ticks && entries[i].next != TRACE_NONE; n++)
		i = entries[i].next;
	return entries[i].function;
}
