/* SPDX-License-Identifier: MIT */
/*
 * The keys of the interleaving test, the values that each goes through, and what its
 * site does with each of them.
 */
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "interleave.h"
#include "sites.h"

/* For its type alone: a NULL key has no first function. */
void void_target(void);

/* clang-format off */
#define LONG_KEY(kind, place, align, off) \
	DEFINE_STATIC_CALL(il_##kind##_##place, il_target_a); \
	extern const struct il_site il_site_il_##kind##_##place[];
#define VOID_KEY(kind, place, align, off) \
	DEFINE_STATIC_CALL_NULL(il_##kind##_##place, void_target); \
	extern const struct il_site il_site_il_##kind##_##place[];
#define BRANCH_KEY(kind, place, align, off) \
	DEFINE_STATIC_KEY_FALSE(il_##kind##_##place); \
	extern const struct il_site il_site_il_##kind##_##place[];
IL_EACH_LONG(LONG_KEY)
IL_EACH_VOID(VOID_KEY)
IL_EACH_BRANCH(BRANCH_KEY)
#define SHORT_KEY(kind, place, align, off) \
	DEFINE_STATIC_KEY_TRUE(il_##kind##_##place); \
	extern const struct il_site il_site_il_##kind##_##place[];
IL_EACH_SHORT(SHORT_KEY)

static const uint8_t functions[] = {IL_A, IL_B, IL_A, IL_C};
static const uint8_t nulls[] = {IL_NULL, IL_A, IL_NULL, IL_B};
static const uint8_t zeros[] = {IL_A, IL_RET0, IL_B, IL_RET0};
static const uint8_t branches[] = {IL_OFF, IL_ON, IL_OFF, IL_ON};
static const uint8_t shorts[] = {IL_ON, IL_OFF, IL_ON, IL_OFF};

#define CALL_CASE(key, text, place, kind, n, taken, values) \
	{text, #place, kind, n, il_site_il_##key##_##place, \
	 &STATIC_CALL_KEY(il_##key##_##place), taken, values},
#define BRANCH_CASE(id, text, place, values) \
	{text, #place, IL_BRANCH, 1, il_site_il_##id##_##place, \
	 &il_##id##_##place.key, true, values},
#define EACH_PLACE(X) X(in) X(line) X(page)

const struct il_case il_cases[] = {
#define CASES(place) CALL_CASE(call, "call", place, IL_CALL, 1, true, functions)
	EACH_PLACE(CASES)
#undef CASES
#define CASES(place) CALL_CASE(null, "call or nop", place, IL_CALL, 1, true, nulls)
	EACH_PLACE(CASES)
#undef CASES
#define CASES(place) CALL_CASE(ret0, "call or RET0", place, IL_CALL, 1, true, zeros)
	EACH_PLACE(CASES)
#undef CASES
#define CASES(place) CALL_CASE(jmp, "jmp", place, IL_JMP, 1, true, functions)
	EACH_PLACE(CASES)
#undef CASES
#define CASES(place) CALL_CASE(jmp_null, "jmp or ret", place, IL_JMP, 1, true, nulls)
	EACH_PLACE(CASES)
#undef CASES
#define CASES(place) CALL_CASE(jmp_ret0, "jmp or RET0", place, IL_JMP, 1, true, zeros)
	EACH_PLACE(CASES)
#undef CASES
#define CASES(place) CALL_CASE(jcc, "jcc taken", place, IL_JCC, 1, true, functions)
	EACH_PLACE(CASES)
#undef CASES
#define CASES(place) CALL_CASE(jcc, "jcc not taken", place, IL_JCC, 1, false, functions)
	EACH_PLACE(CASES)
#undef CASES
#define CASES(place) BRANCH_CASE(branch, "branch of 5 bytes", place, branches)
	EACH_PLACE(CASES)
#undef CASES
#define CASES(place) BRANCH_CASE(branch2, "branch of 2 bytes", place, shorts)
	EACH_PLACE(CASES)
#undef CASES
#define CASES(place) CALL_CASE(two, "two calls", place, IL_CALL, 2, true, functions)
	EACH_PLACE(CASES)
#undef CASES
};
/* clang-format on */

const size_t il_nr_cases = sizeof(il_cases) / sizeof(il_cases[0]);

static void (*function_of(enum il_value value))(void)
{
	switch (value) {
	case IL_A:
		return (void (*)(void))il_target_a;
	case IL_B:
		return (void (*)(void))il_target_b;
	case IL_C:
		return (void (*)(void))il_target_c;
	case IL_RET0:
		return (void (*)(void))__static_call_return0;
	default:
		return NULL;
	}
}

int il_update(const struct il_case *c, unsigned version)
{
	enum il_value value = c->values[version];

	if (c->kind != IL_BRANCH)
		return __static_call_update(c->key, function_of(value));
	return value == IL_ON ? __static_key_enable(c->key) : __static_key_disable(c->key);
}

const void *il_value_word(const struct il_case *c, size_t *len)
{
	if (c->kind != IL_BRANCH) {
		const struct static_call_key *key = c->key;

		*len = sizeof(key->func);
		return &key->func;
	}
	*len = 1;
	return &((const struct static_key *)c->key)->first->on;
}

void il_landing(const struct il_case *c, unsigned site, unsigned version, struct il_landing *to)
{
	enum il_value value = c->values[version];

	*to = (struct il_landing){.rip = (uint64_t)c->sites[site].next};
	if (c->kind == IL_BRANCH) {
		if (value == IL_ON)
			to->rip = (uint64_t)c->sites[site].jump;
	} else if (c->kind == IL_CALL && value == IL_RET0) {
		to->ret0 = true;
	} else if (value == IL_NULL) {
		to->pop = c->kind == IL_JMP;
		to->test = c->kind == IL_CALL;
	} else if (c->taken) {
		to->rip = (uint64_t)function_of(value);
		to->push = c->kind == IL_CALL;
	}
}
