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

		if (entry->func == ip || (entry->ip == ip && !shunt_entry_is_exit(entry)))
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
	if (shunt_entry_is_exit(entry) && !taken->exits)
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

/* The rules' bytes. What is behind those that are used is free for rules to come. */
struct shunt_rule_store {
	size_t size; /* of the whole, in memory */
	uint8_t bytes[];
};

static const struct rule *next_rule(const struct shunt_rules *rules, const struct rule *rule)
{
	const uint8_t *first = rules->store ? rules->store->bytes : NULL;
	const uint8_t *next = rule ? (const uint8_t *)(rule + 1) + rule_len(rule) : first;

	return first && next < first + rules->used ? (const struct rule *)next : NULL;
}

/* In the order of the rules: of @notrace what they leave, else what the others take. */
static void eval_part(const struct shunt_rules *rules, bool notrace, struct taken *taken,
		      const struct shunt_entries *set)
{
	for (const struct rule *r = next_rule(rules, NULL); r; r = next_rule(rules, r))
		if ((r->kind == SHUNT_RULE_NOTRACE) == notrace)
			apply(taken, set, (enum shunt_rule)r->kind, r + 1, rule_len(r));
}

static void take_all(struct taken *taken, const struct shunt_entries *set, bool value)
{
	taken->value = value;
	for (size_t i = 0; i < set->n; i++)
		take(taken, &set->entries[i]);
}

void shunt_rules_eval(const struct shunt_rules *rules, bool exits, struct shunt_bits *bits,
		      struct shunt_entries *only)
{
	struct taken taken = {.bits = bits, .exits = exits};

	take_all(&taken, only, !rules->has_filter);
	eval_part(rules, false, &taken, only);
	eval_part(rules, true, &taken, only);
}

/* ------------------------------------------------------------ what rules take */

static struct shunt_bits *take_part(const struct shunt_rules *rules, bool exits, bool notrace)
{
	struct taken taken = {.bits = shunt_bits_alloc(), .exits = exits};

	for (struct shunt_entries *set = taken.bits ? shunt_entries_first() : NULL; set;
	     set = set->next) {
		take_all(&taken, set, notrace || !rules->has_filter);
		eval_part(rules, notrace, &taken, set);
	}
	return taken.bits;
}

/* As @part, and all that @added takes or leaves (NULL: nothing). */
static struct shunt_bits *take_more(const struct shunt_bits *part, bool exits,
				    const struct shunt_rule_added *added)
{
	struct taken taken = {.bits = shunt_bits_alloc(), .exits = exits};

	if (!taken.bits)
		return NULL;
	for (size_t i = 0; i < part->nr_words; i++)
		taken.bits->words[i] = part->words[i];
	for (struct shunt_entries *set = added ? shunt_entries_first() : NULL; set; set = set->next)
		apply(&taken, set, added->kind, added->data, added->len);
	return taken.bits;
}

static bool is_filter(const struct shunt_rule_added *added)
{
	return added && (added->kind == SHUNT_RULE_FILTER || added->kind == SHUNT_RULE_IP);
}

bool shunt_is_known(const struct shunt_known *known, bool exits)
{
	return known->taken && known->at == shunt_entries_changes() && known->exits == exits;
}

int shunt_rules_know(const struct shunt_rules *rules, bool exits, const struct shunt_known *before,
		     const struct shunt_rule_added *added, struct shunt_known *known)
{
	bool can_add = added && added->len && !added->reset && shunt_is_known(before, exits);
	bool of_notrace = added && added->kind == SHUNT_RULE_NOTRACE;
	/* Before the first filter all are taken. */
	bool is_same = can_add && before->has_filter == rules->has_filter;
	struct shunt_known new = {.at = shunt_entries_changes(), .exits = exits};

	new.has_filter = rules->has_filter;
	new.taken = is_same ? take_more(before->taken, exits, of_notrace ? NULL : added)
			    : take_part(rules, exits, false);
	if (rules->has_notrace)
		new.left = can_add && before->left
				   ? take_more(before->left, exits, of_notrace ? added : NULL)
				   : take_part(rules, exits, true);
	shunt_known_forget(known);
	*known = new;
	if (new.taken && (new.left || !rules->has_notrace))
		return 0;
	shunt_known_forget(known);
	return shunt_port_no_memory();
}

struct shunt_bits *shunt_known_bits(const struct shunt_known *known)
{
	struct shunt_bits *bits = shunt_bits_alloc();

	for (size_t i = 0; bits && i < bits->nr_words; i++)
		bits->words[i] = known->taken->words[i] &
				 (known->left ? known->left->words[i] : ~UINT64_C(0));
	return bits;
}

void shunt_known_forget(struct shunt_known *known)
{
	shunt_bits_free(known->taken);
	shunt_bits_free(known->left);
	*known = (struct shunt_known){0};
}

/* --------------------------------------------------------------- a rule more */

/* Whether a reset for a rule of @kind ends the rule @r. */
static bool is_reset_by(const struct rule *r, enum shunt_rule kind)
{
	return (r->kind == SHUNT_RULE_NOTRACE) == (kind == SHUNT_RULE_NOTRACE);
}

static void add_rule(struct shunt_rules *rules, uint8_t kind, const void *data, size_t len)
{
	const struct rule rule = {kind, {(uint8_t)len, (uint8_t)(len >> 8), (uint8_t)(len >> 16)}};
	uint8_t *to = rules->store->bytes + rules->used;

	copy_bytes(to, (const uint8_t *)&rule, sizeof(rule));
	copy_bytes(to + sizeof(rule), data, len);
	rules->used += sizeof(rule) + len;
	rules->has_notrace |= kind == SHUNT_RULE_NOTRACE;
}

/* Room for @more bytes, and for as many as there are. */
static struct shunt_rule_store *make_store(const struct shunt_rules *rules, size_t more)
{
	size_t size = sizeof(struct shunt_rule_store) + 2 * rules->used + more;
	struct shunt_rule_store *store = shunt_port_alloc(size);

	if (store)
		store->size = size;
	return store;
}

/* What is left of @rules, with room for @more bytes. */
static int copy_rules(const struct shunt_rules *rules, const struct shunt_rule_added *added,
		      size_t more, struct shunt_rules *out)
{
	*out = (struct shunt_rules){.store = make_store(rules, more)};
	if (!out->store)
		return shunt_port_no_memory();
	if (!(added->reset && added->kind != SHUNT_RULE_NOTRACE))
		out->has_filter = rules->has_filter;
	for (const struct rule *r = next_rule(rules, NULL); r; r = next_rule(rules, r))
		if (!added->reset || !is_reset_by(r, added->kind))
			add_rule(out, r->kind, r + 1, rule_len(r));
	return 0;
}

int shunt_rules_with(const struct shunt_rules *rules, const struct shunt_rule_added *added,
		     struct shunt_rules *out)
{
	size_t more = sizeof(struct rule) + added->len;
	int ret = 0;

	if (added->len > LONGEST)
		return -SHUNT_EINVAL;
	if (rules->store && !added->reset &&
	    sizeof(*rules->store) + rules->used + more <= rules->store->size)
		*out = *rules;
	else
		ret = copy_rules(rules, added, more, out);
	if (ret || !added->len)
		return ret;
	add_rule(out, (uint8_t)added->kind, added->data, added->len);
	out->has_filter |= is_filter(added);
	return 0;
}

void shunt_rules_drop(struct shunt_rules *rules, const struct shunt_rules *kept)
{
	if (rules->store && !(kept && kept->store == rules->store))
		shunt_port_free(rules->store, rules->store->size);
	*rules = (struct shunt_rules){0};
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
