/* SPDX-License-Identifier: MIT */
/*
 * A call or jmp through a slot (ff 15, ff 25) becomes direct in the first poke of its module.
 * `shunt bake` has done that in the kernel's image, so the self-test brings a site that it does not
 * know of.
 */
#include "selftest_linked.h"

#include "core/key.h"
#include "core_sync.h"
#include "kernel.h"
#include "port.h"

#define INSN_SIZE     6
#define MODRM_OF_CALL 0x15

static struct shunt_site site;
static struct shunt_mod mod;
static struct shunt_sites sites = {.kind = &shunt_static_call_kind, .mods = &mod};
static uint8_t as_linked[INSN_SIZE];

int selftest_link(uint8_t *insn, struct static_call_key *key, uintptr_t tramp, uintptr_t slot)
{
	struct shunt_report report = {0};
	uintptr_t base = (uintptr_t)__text_start;
	int ret = shunt_port_lock();

	if (ret)
		return ret;
	memcpy(as_linked, insn, INSN_SIZE);
	site = (struct shunt_site){.off = (uint32_t)((uintptr_t)insn - base),
				   .kind = insn[1] == MODRM_OF_CALL ? SHUNT_KIND_CALL_GOT
								    : SHUNT_KIND_JMP_GOT};
	mod = (struct shunt_mod){.key = key, .tramp = tramp, .slot = slot};
	sites.nr_mods = 1;
	ret = shunt_sites_add(&sites, base, &site, 1, &report);
	shunt_port_unlock();
	return ret;
}

int selftest_unlink(uint8_t *insn)
{
	int ret = shunt_port_lock();

	if (ret)
		return ret;
	shunt_sites_remove(&sites);
	port_write_text(insn, as_linked, INSN_SIZE);
	core_sync();
	shunt_port_unlock();
	return 0;
}
