/* SPDX-License-Identifier: MIT */
/*
 * The inspection interface, and whether what it tells is what memory holds: a site
 * that is called inline is e8, or e9, with the displacement of the target, and
 * nothing else.
 */
#include <string.h>

#include "suite.h"
#include "tap.h"

#ifdef SHUNT_GENERIC

void check_sites(const char *what, const char *name, const char *module, void *target, int min)
{
	(void)what, (void)name, (void)module, (void)target, (void)min;
}

void test_inspect(void)
{
}

#else

/* ------------------------------------------------------------ bytes of a site */

#ifdef __aarch64__

/* bl or b to @target; off: a nop, or a b to what returns at once. */
static bool is_branch_bytes(const unsigned char *p, unsigned opcode, const void *target)
{
	unsigned word;

	memcpy(&word, p, sizeof(word));
	return word >> 26 == opcode && p + (long)((int)(word << 6) >> 6) * 4 == target;
}

static bool is_call_bytes(const unsigned char *p, size_t len, void *target)
{
	if (!target)
		return len == 4 && !memcmp(p, "\x1f\x20\x03\xd5", 4);
	return len == 4 && is_branch_bytes(p, 0x25, target);
}

static bool is_tail_bytes(const unsigned char *p, void *target)
{
	return is_branch_bytes(p, 0x05, target ? target : (void *)__static_call_nop);
}

static bool is_jcc_bytes(const unsigned char *p, void *target)
{
	(void)p;
	(void)target;
	return false; /* there are none */
}

#define REACH 0x7ffff00l

#else

static const unsigned char *target_of(const unsigned char *field)
{
	int disp;

	memcpy(&disp, field, sizeof(disp));
	return field + 4 + disp;
}

static bool starts_with(const unsigned char *p, const char *bytes, size_t n)
{
	return !memcmp(p, bytes, n);
}

static bool is_call_bytes(const unsigned char *p, size_t len, void *target)
{
	if (!target && len == 5 && p[0] == 0xa9) /* off, with what it called */
		return true;
	if (!target)
		return starts_with(
			p, len == 5 ? "\x0f\x1f\x44\x00\x00" : "\x66\x0f\x1f\x44\x00\x00", len);
	if (target == STATIC_CALL_RET0) /* xor %eax, %eax behind prefixes */
		return p[len - 2] == 0x31 && p[len - 1] == 0xc0;
	if (len == 6 && *p++ != 0x67) /* a call that went through the GOT: addr32 call */
		return false;
	return p[0] == 0xe8 && target_of(p + 1) == target;
}

static bool is_tail_bytes(const unsigned char *p, void *target)
{
	if (!target)
		return p[0] == 0xc3;
	return p[0] == 0xe9 && target_of(p + 1) == target;
}

static bool is_jcc_bytes(const unsigned char *p, void *target)
{
	return p[0] == 0x0f && (p[1] & 0xf0) == 0x80 && target_of(p + 2) == target;
}

#define REACH 0x7fffff00l

#endif

static bool is_right(const struct shunt_site_info *site, void *target)
{
	const unsigned char *p = site->addr;

	switch (site->state) {
	case SHUNT_SITE_INLINE:
		return !site->why && is_call_bytes(p, site->len, target);
	case SHUNT_SITE_TAIL:
		return !site->why && is_tail_bytes(p, target);
	case SHUNT_SITE_CONDITIONAL:
		return !site->why && is_jcc_bytes(p, target);
	default:
		return site->why && *site->why;
	}
}

/* Out of reach of an instruction, or a helper of a shared libshunt that may be. */
static bool may_be_far(const struct shunt_site_info *site, void *target)
{
	long distance = (long)((char *)target - (char *)site->addr);

	return site->state != SHUNT_SITE_INLINE && !target ? true
							   : distance > REACH || distance < -REACH;
}

/* ----------------------------------------------------------------- check_sites */

struct check {
	const char *module;
	void *target;
	int sites, right, inlined;
};

static const char *own_path;

static int note_own_path(const struct shunt_key_info *key, void *arg)
{
	(void)arg;
	if (!strcmp(key->name, "st_add"))
		own_path = key->module;
	return 0;
}

static bool is_in_module(const char *path, const char *module)
{
	if (!own_path)
		(void)shunt_for_each_key(note_own_path, NULL);
	return module ? strstr(path, module) != NULL : own_path && !strcmp(path, own_path);
}

static int check_one(const struct shunt_site_info *site, void *arg)
{
	struct check *c = arg;
	const unsigned char *p = site->addr;

	if (!is_in_module(site->module, c->module))
		return 0;
	c->sites++;
	c->inlined += site->state != SHUNT_SITE_TRAMPOLINE || may_be_far(site, c->target);
	if (is_right(site, c->target)) {
		c->right++;
		return 0;
	}
	diag("site %p of %s in %s+%zu is %s, but holds %02x %02x %02x %02x %02x %02x", site->addr,
	     site->key, site->function ? site->function : "?", site->offset,
	     shunt_site_state_name(site->state), p[0], p[1], p[2], p[3], p[4], p[5]);
	return 0;
}

void check_sites(const char *what, const char *name, const char *module, void *target, int min)
{
	struct check c = {.module = module, .target = target};
	int ret = shunt_for_each_site(name, check_one, &c);

	ok(ret == 0 && c.right == c.sites, "%s: %d of %d sites of %s are right in memory", what,
	   c.right, c.sites, name);
	if (options.expect == EXPECT_INLINE)
		ok(c.sites >= min && c.inlined == c.sites, "%s: %d of at least %d are inline", what,
		   c.inlined, min);
	else if (options.expect == EXPECT_TRAMPOLINE && !module)
		ok(c.sites == 0, "%s: no site is known", what);
}

/* ----------------------------------------------------------------- has_site_in */

struct wanted {
	const char *function;
	enum shunt_site_state state;
	bool found;
};

static int find_one(const struct shunt_site_info *site, void *arg)
{
	struct wanted *w = arg;

	if (!site->function || !strstr(site->function, w->function))
		return 0;
	w->state = site->state;
	w->found = true;
	return 1;
}

bool has_site_in(const char *name, const char *function, enum shunt_site_state *state)
{
	struct wanted w = {.function = function};

	(void)shunt_for_each_site(name, find_one, &w);
	*state = w.state;
	return w.found;
}

static void check_state(const char *function, enum shunt_site_state want)
{
	enum shunt_site_state state;
	bool found = has_site_in("st_add", function, &state);

#if !defined(__OPTIMIZE__) || defined(SUITE_NO_TAILS) || defined(SUITE_TSAN)
	if (want == SHUNT_SITE_TAIL)
		want = SHUNT_SITE_INLINE;
#endif
	ok(found && state == want, "the site in %s is %s", function, shunt_site_state_name(want));
}

/* -------------------------------------------------------------------- the keys */

struct keys {
	int st_add, st_bump, st_zero;
	bool right;
};

static int check_key(const struct shunt_key_info *key, void *arg)
{
	struct keys *keys = arg;

	if (strcmp(key->name, "st_add") || !is_in_module(key->module, NULL)) {
		keys->st_bump += !strcmp(key->name, "st_bump") && !key->target;
		keys->st_zero += !strcmp(key->name, "st_zero") && key->target == STATIC_CALL_RET0;
		return 0;
	}
	keys->st_add++;
	keys->right = key->target == (void *)add1 && key->inline_sites <= key->sites;
	if (options.expect == EXPECT_TRAMPOLINE) {
		keys->right = keys->right && key->why && !key->sites;
		diag("why: %s", key->why ? key->why : "(NULL)");
	} else {
		keys->right = keys->right && !key->why && key->target_function &&
			      strstr(key->target_function, "add1");
	}
	if (options.expect == EXPECT_INLINE)
		keys->right = keys->right && key->sites >= 6 && key->inline_sites == key->sites;
	diag("st_add: target %s, %zu sites, %zu inline",
	     key->target_function ? key->target_function : "?", key->sites, key->inline_sites);
	return 0;
}

static int stop_at_once(const struct shunt_key_info *key, void *arg)
{
	(void)key;
	++*(int *)arg;
	return 42;
}

static int stop_at_once_site(const struct shunt_site_info *site, void *arg)
{
	(void)site;
	++*(int *)arg;
	return 43;
}

static int update_within(const struct shunt_site_info *site, void *arg)
{
	(void)site;
	*(int *)arg |= static_call_update(st_add, add2);
	return 0;
}

static void test_walks(void)
{
	struct keys keys = {0};
	int calls = 0, ret;

	ok(shunt_for_each_key(check_key, &keys) == 0, "the keys can be listed");
	ok(keys.st_add == 1 && keys.st_bump == 1 && keys.st_zero == 1, "each of ours once");
	ok(keys.right, "st_add is as it should be");
	ok(shunt_for_each_key(stop_at_once, &calls) == 42 && calls == 1, "the walk can be ended");
	calls = 0;
	ok(shunt_for_each_site("no such key", stop_at_once_site, &calls) == 0 && calls == 0,
	   "a key that does not exist has no sites");
	calls = 0;
	if (options.expect != EXPECT_TRAMPOLINE)
		ok(shunt_for_each_site(NULL, stop_at_once_site, &calls) == 43 && calls == 1,
		   "the walk over sites can be ended");
	calls = 0;
	ok(shunt_for_each_site("st_add", update_within, &calls) == 0 && calls == 0,
	   "a key can be updated during the walk");
	ret = static_call_update(st_add, add1);
	ok(ret == 0, "and back");
}

static void test_counters(void)
{
	struct shunt_stats before, after;
	struct shunt_ways ways;
	int ret;

	shunt_get_stats(&before);
	ret = static_call_update(st_add, add2);
	ok(ret == 0 && call_site(1) == 3, "an update to count");
	check_sites("counted", "st_add", NULL, (void *)add2, 5);
	ret = static_call_update(st_add, add1);
	ok(ret == 0 && call_site(1) == 2, "another");
	shunt_get_stats(&after);
	shunt_get_ways(&ways);
	diag("ways: write %s, sync %s, poke %s", ways.write, ways.sync, ways.poke);
	if (options.expect == EXPECT_TRAMPOLINE)
		return;
	ok(after.updates == before.updates + 2, "updates grew by two");
	ok(after.writes > before.writes && after.bytes_written > before.bytes_written,
	   "so did writes (%llu) and bytes (%llu)",
	   (unsigned long long)(after.writes - before.writes),
	   (unsigned long long)(after.bytes_written - before.bytes_written));
	ok(after.syncs > before.syncs && strcmp(ways.sync, "none"), "so did syncs, by %llu",
	   (unsigned long long)(after.syncs - before.syncs));
	ok(after.traps >= before.traps && after.late_traps >= before.late_traps &&
		   after.foreign_traps == before.foreign_traps,
	   "traps do not shrink, none is foreign");
	ok(strcmp(ways.write, "none") != 0, "text is written somehow");
}

void test_inspect(void)
{
	check_sites("add1", "st_add", NULL, (void *)add1, 6);
	check_sites("NULL", "st_bump", NULL, NULL, 2);
	check_sites("RET0", "st_zero", NULL, STATIC_CALL_RET0, 2);
	test_walks();
	if (options.expect == EXPECT_INLINE) {
		check_state("call_site", SHUNT_SITE_INLINE);
		check_state("tail_site", SHUNT_SITE_TAIL);
		check_state("loop_site", SHUNT_SITE_INLINE);
	}
	if (options.expect != EXPECT_TRAMPOLINE) {
		enum shunt_site_state state;

		ok(has_site_in("st_add", "jcc_site", &state) && state == SUITE_JCC_STATE,
		   "the site in jcc_site is %s", shunt_site_state_name(SUITE_JCC_STATE));
	}
	ok(!strcmp(shunt_site_state_name(SHUNT_SITE_INLINE), "inline") &&
		   !strcmp(shunt_site_state_name(SHUNT_SITE_TAIL), "tail") &&
		   !strcmp(shunt_site_state_name(SHUNT_SITE_CONDITIONAL), "conditional") &&
		   !strcmp(shunt_site_state_name(SHUNT_SITE_TRAMPOLINE), "trampoline"),
	   "states have names");
	test_counters();
}

#endif
