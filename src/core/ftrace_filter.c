/* SPDX-License-Identifier: MIT */
/*
 * Filters of function tracing: which entries ops want. They are kept as rules, in the order in
 * which they were made, because they apply to modules that are loaded later, too.
 */
#include "core/error.h"
#include "core/ftrace_internal.h"

/* In front of each rule's @len bytes: a glob, or an address. */
struct rule {
	uint8_t kind; /* enum shunt_rule */
	uint8_t len[3];
};

#define LONGEST 0xffffffu

static size_t rule_len(const struct rule *rule)
{
	return rule->len[0] | (size_t)rule->len[1] << 8 | (size_t)rule->len[2] << 16;
}

static void copy_bytes(uint8_t *to, const uint8_t *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((volatile uint8_t *)to)[i] = from[i];
}

/* ------------------------------------------------------------------------ globs */

struct text {
	const char *at, *end;
};

/* "[a-z]", "[!a-z]" at @glob: whether @c is in it; *next: behind it; NULL: there is no end. */
static bool is_in_class(struct text glob, char c, const char **next)
{
	const char *p = glob.at + 1;
	bool negate = p < glob.end && (*p == '!' || *p == '^'), found = false;

	p += negate;
	for (const char *first = p; p < glob.end && (*p != ']' || p == first); p++) {
		char low = *p;

		if (p + 2 < glob.end && p[1] == '-' && p[2] != ']')
			p += 2;
		found |= low <= c && c <= *p;
	}
	*next = p < glob.end ? p + 1 : NULL;
	return found != negate;
}

/* One character of the pattern, not '*', against @c. */
static bool matches_one(struct text *glob, char c)
{
	const char *next = glob->at + 1;
	bool good = *glob->at == '?' || *glob->at == c;

	if (*glob->at == '[') {
		bool in = is_in_class(*glob, c, &next);

		good = next ? in : c == '['; /* without an end it is a character */
		next = next ? next : glob->at + 1;
	}
	glob->at = next;
	return good;
}

/* Without recursion: what follows a '*' is tried again further on. */
static bool matches(struct text glob, struct text name)
{
	struct text star = {0}, retry = name;

	while (name.at < name.end) {
		if (glob.at < glob.end && *glob.at == '*') {
			glob.at++;
			star = glob;
			retry = name;
		} else if (glob.at < glob.end && matches_one(&glob, *name.at)) {
			name.at++;
		} else if (star.at) {
			glob = star;
			name.at = ++retry.at;
		} else {
			return false;
		}
	}
	while (glob.at < glob.end && *glob.at == '*')
		glob.at++;
	return glob.at == glob.end;
}

static struct text text_of(const char *s)
{
	struct text text = {s, s};

	while (*text.end)
		text.end++;
	return text;
}

/*
 * The module's part ends at the last ':' that has none beside it: C++ names have "::", and a
 * module's file name may have anything. Symbols are as the file has them (mangled), so they have no
 * ':'.
 */
static const char *find_colon(struct text glob)
{
	for (const char *p = glob.end; p > glob.at; p--)
		if (p[-1] == ':')
			return p - 1;
	return NULL;
}

bool shunt_glob_matches(const char *glob, size_t len, const struct shunt_entries *set,
			const struct shunt_entry *entry)
{
	struct text names = {glob, glob + len};
	const char *colon = find_colon(names), *name = shunt_entry_names(set, entry);

	if (colon) {
		if (!matches((struct text){glob, colon}, text_of(set->module ? set->module : "")))
			return false;
		names.at = colon + 1;
	}
	if (!*name)
		return matches(names, text_of(name));
	while (*name) {
		struct text text = text_of(name);

		if (matches(names, text))
			return true;
		name = text.end + 1;
	}
	return false;
}

/* -------------------------------------------------------------------- functions */

static bool is_exit(const struct shunt_entry *entry)
{
	return entry->form == SHUNT_FORM_RETURN || entry->form == SHUNT_FORM_TAIL ||
	       entry->form == SHUNT_FORM_CALL_RETURN || entry->form == SHUNT_FORM_JUMP_RETURN;
}

/* The first entry of @set at or behind @ip; @set->n: none. */
static size_t find_from(const struct shunt_entries *set, uintptr_t ip)
{
	size_t low = 0, high = set->n;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (set->entries[middle].ip < ip)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The start of the function of which @ip is the start or the entry; 0: @set has none. */
static uintptr_t function_at(const struct shunt_entries *set, uintptr_t ip)
{
	for (size_t i = find_from(set, ip); i < set->n; i++) {
		const struct shunt_entry *entry = &set->entries[i];

		if (entry->func == ip || (entry->ip == ip && !is_exit(entry)))
			return entry->func;
		if (entry->func > ip)
			break;
	}
	return 0;
}

/* ------------------------------------------------------------------------ rules */

struct taken {
	struct shunt_bits *bits; /* NULL: only say whether there are any */
	bool exits, value;
	bool any;
};

static void take(struct taken *taken, const struct shunt_entry *entry)
{
	if (is_exit(entry) && !taken->exits)
		return;
	taken->any = true;
	if (taken->bits)
		shunt_bits_set(taken->bits, entry->index, taken->value);
}

static void take_glob(struct taken *taken, const struct shunt_entries *set, const char *glob,
		      size_t len)
{
	uintptr_t last = 0;
	bool matched = false;

	for (size_t i = 0; i < set->n; i++) {
		const struct shunt_entry *entry = &set->entries[i];

		if (!i || entry->func != last)
			matched = shunt_glob_matches(glob, len, set, entry);
		last = entry->func;
		if (matched)
			take(taken, entry);
	}
}

static void take_ip(struct taken *taken, const struct shunt_entries *set, const void *data)
{
	uintptr_t ip = 0, func;

	copy_bytes((uint8_t *)&ip, data, sizeof(ip));
	func = function_at(set, ip);
	for (size_t i = func ? find_from(set, func) : set->n; i < set->n; i++) {
		if (set->entries[i].func > func)
			break;
		if (set->entries[i].func == func)
			take(taken, &set->entries[i]);
	}
}

static void apply(struct taken *taken, const struct shunt_entries *set, enum shunt_rule kind,
		  const void *data, size_t len)
{
	taken->value = kind == SHUNT_RULE_FILTER || kind == SHUNT_RULE_IP;
	if (kind == SHUNT_RULE_FILTER || kind == SHUNT_RULE_NOTRACE)
		take_glob(taken, set, data, len);
	else
		take_ip(taken, set, data);
}

bool shunt_rule_matches(enum shunt_rule kind, const void *data, size_t len)
{
	struct taken taken = {0};

	for (struct shunt_entries *set = shunt_entries_first(); set && !taken.any; set = set->next)
		apply(&taken, set, kind, data, len);
	return taken.any;
}

static const struct rule *next_rule(const struct shunt_rules *rules, const struct rule *rule)
{
	const uint8_t *next =
		rule ? (const uint8_t *)(rule + 1) + rule_len(rule) : (rules ? rules->bytes : NULL);

	return rules && next < rules->bytes + rules->used ? (const struct rule *)next : NULL;
}

/* In the order of the rules; those that take nothing come after all others. */
static void eval_set(const struct shunt_rules *rules, struct taken *taken,
		     const struct shunt_entries *set)
{
	taken->value = !rules || !rules->has_filter;
	for (size_t i = 0; i < set->n; i++)
		take(taken, &set->entries[i]);
	for (int notrace = 0; notrace < 2; notrace++)
		for (const struct rule *r = next_rule(rules, NULL); r; r = next_rule(rules, r))
			if ((r->kind == SHUNT_RULE_NOTRACE) == notrace)
				apply(taken, set, (enum shunt_rule)r->kind, r + 1, rule_len(r));
}

void shunt_rules_eval(const struct shunt_rules *rules, bool exits, struct shunt_bits *bits,
		      struct shunt_entries *only)
{
	struct taken taken = {.bits = bits, .exits = exits};

	for (struct shunt_entries *set = only ? only : shunt_entries_first(); set;
	     set = only ? NULL : set->next)
		eval_set(rules, &taken, set);
}

/* Whether a reset for a rule of @kind ends the rule @r. */
static bool is_reset_by(const struct rule *r, enum shunt_rule kind)
{
	return (r->kind == SHUNT_RULE_NOTRACE) == (kind == SHUNT_RULE_NOTRACE);
}

static void add_rule(struct shunt_rules *rules, uint8_t kind, const void *data, size_t len)
{
	const struct rule rule = {kind, {(uint8_t)len, (uint8_t)(len >> 8), (uint8_t)(len >> 16)}};

	copy_bytes(rules->bytes + rules->used, (const uint8_t *)&rule, sizeof(rule));
	copy_bytes(rules->bytes + rules->used + sizeof(rule), data, len);
	rules->used += sizeof(rule) + len;
}

int shunt_rules_with(const struct shunt_rules *rules, enum shunt_rule kind, const void *data,
		     size_t len, bool reset, struct shunt_rules **out)
{
	size_t size = sizeof(struct shunt_rules) + (rules ? rules->used : 0) + sizeof(struct rule);
	struct shunt_rules *new;

	if (len > LONGEST)
		return -SHUNT_EINVAL;
	new = shunt_port_alloc(size + len);
	if (!new)
		return -SHUNT_ENOMEM;
	new->size = size + len;
	if (rules && !(reset && kind != SHUNT_RULE_NOTRACE))
		new->has_filter = rules->has_filter;
	for (const struct rule *r = next_rule(rules, NULL); r; r = next_rule(rules, r))
		if (!reset || !is_reset_by(r, kind))
			add_rule(new, r->kind, r + 1, rule_len(r));
	if (len)
		add_rule(new, (uint8_t)kind, data, len);
	if (len && (kind == SHUNT_RULE_FILTER || kind == SHUNT_RULE_IP))
		new->has_filter = true;
	*out = new;
	return 0;
}

void shunt_rules_free(struct shunt_rules *rules)
{
	if (rules)
		shunt_port_free(rules, rules->size);
}

/* The code of @set goes away: what comes to its addresses is something else. */
void shunt_rules_forget(struct shunt_rules *rules, const struct shunt_entries *set)
{
	for (const struct rule *r = next_rule(rules, NULL); r; r = next_rule(rules, r)) {
		uintptr_t ip = 0;

		if (r->kind != SHUNT_RULE_IP && r->kind != SHUNT_RULE_NOT_IP)
			continue;
		copy_bytes((uint8_t *)&ip, (const uint8_t *)(r + 1), sizeof(ip));
		if (!function_at(set, ip))
			continue;
		for (size_t i = 0; i < sizeof(ip); i++) /* there is no function at 0 */
			((volatile uint8_t *)(uintptr_t)(r + 1))[i] = 0;
	}
}
