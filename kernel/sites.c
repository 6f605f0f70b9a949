/* SPDX-License-Identifier: MIT */
/*
 * The sites of the kernel's own image, handed to the core at boot. Those of static
 * calls come from the table that `shunt bake` has written into the section
 * .shunt.sites (its format: linux/elf/baked.h), out of the relocations that the linker
 * kept; static branches record themselves.
 */
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "core/key.h"
#include "kernel.h"
#include "linux/elf/baked.h"
#include "port.h"

/* The room for the table. */
static const uint8_t room[12288] __attribute__((used, section(SHUNT_BAKED_SECTION)));

extern const uint8_t __start_shunt_sites[];
extern const struct static_jump_entry __start_static_jumps[], __stop_static_jumps[];

/* Memory that stays for ever. */
static void *must_alloc(size_t size)
{
	void *p = kalloc(size);

	if (!p)
		panic("no memory for the site table");
	return p;
}

/* ---------------------------------------------------------------- static calls */

static void read_mods(struct shunt_mod *mods, const struct shunt_baked_mod *in, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		mods[i].key = (void *)in[i].key;
		mods[i].tramp = in[i].tramp;
		mods[i].slot = in[i].slot;
	}
}

static void read_sites(struct shunt_site *sites, const struct shunt_baked_site *in, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		sites[i].off = in[i].off;
		sites[i].kind = in[i].what & SHUNT_BAKED_KIND;
		sites[i].baked = !!(in[i].what & SHUNT_BAKED_DIRECT);
		sites[i].owner = in[i].what >> SHUNT_BAKED_MOD_SHIFT;
		sites[i].next = sites[i].owner;
	}
}

static int add_calls(struct shunt_report *report)
{
	static struct shunt_sites calls = {.kind = &shunt_static_call_kind};
	const struct shunt_baked_header *head = (const void *)__start_shunt_sites;
	const struct shunt_baked_mod *mods = (const void *)(head + 1);
	struct shunt_site *sites;

	if (memcmp(head->magic, SHUNT_BAKED_MAGIC, sizeof(head->magic)) != 0)
		panic("the image has no site table: shunt bake has not been run");
	calls.nr_mods = head->nr_mods;
	calls.mods = must_alloc(head->nr_mods * sizeof(*calls.mods));
	sites = must_alloc(head->nr_sites * sizeof(*sites));
	read_mods(calls.mods, mods, head->nr_mods);
	read_sites(sites, (const void *)(mods + head->nr_mods), head->nr_sites);
	print("# sites: %u of %u static calls", head->nr_sites, head->nr_mods);
	return shunt_sites_add(&calls, head->base, sites, head->nr_sites, report);
}

/* ------------------------------------------------------------- static branches */

/* The mod of @key among the first *n, added where it is new. */
static uint32_t mod_of(struct shunt_mod *mods, uint32_t *n, struct shunt_static_key *key)
{
	for (uint32_t i = 0; i < *n; i++)
		if (mods[i].key == key)
			return i;
	mods[*n].key = key;
	return (*n)++;
}

static int add_branches(struct shunt_report *report)
{
	static struct shunt_sites branches = {.kind = &shunt_static_key_kind};
	const struct static_jump_entry *entries = __start_static_jumps;
	uint32_t n = (uint32_t)(__stop_static_jumps - entries);
	uintptr_t base = (uintptr_t)__text_start;
	struct shunt_site *sites = must_alloc(n * sizeof(*sites));

	branches.module = entries;
	branches.mods = must_alloc(n * sizeof(*branches.mods));
	for (uint32_t i = 0; i < n; i++) {
		uintptr_t code = shunt_jump_code(&entries[i]);
		uint32_t nr_mods = branches.nr_mods;

		sites[i].off = (uint32_t)(code - base);
		sites[i].owner = i;
		sites[i].next = mod_of(branches.mods, &nr_mods, shunt_jump_key(&entries[i]));
		sites[i].kind =
			*(const uint8_t *)code == 0xeb ? SHUNT_KIND_BRANCH2 : SHUNT_KIND_BRANCH;
		branches.nr_mods = nr_mods;
	}
	print(", %u static branches\n", n);
	return shunt_sites_add(&branches, base, sites, n, report);
}

void sites_init(void)
{
	struct shunt_report report = {0};
	int ret = shunt_port_lock();

	if (!ret)
		ret = add_calls(&report);
	if (!ret)
		ret = add_branches(&report);
	if (ret)
		panic("sites: %s: error %d", report.what ? report.what : "", ret);
	shunt_port_unlock();
}
