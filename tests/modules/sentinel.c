/* SPDX-License-Identifier: MIT */
/*
 * A module that never heard of Shunt, with words that point to themselves, as the ends of
 * lists and trees do: each looks like a __dso_handle to whoever goes by relocations.
 */
#ifdef SENTINEL_SMALL
/* And one whose text ends soon behind its last function, which is looked into. */
extern int sentinel_call(void);
#else
struct node {
	const struct node *left, *right;
};

extern const struct node *sentinel_nil(void);
extern int sentinel_call(void);

static const struct node nil = {&nil, &nil};
struct node sentinel_list = {&sentinel_list, &sentinel_list};

const struct node *sentinel_nil(void)
{
	return &nil;
}
#endif

int sentinel_call(void)
{
	return 42;
}
