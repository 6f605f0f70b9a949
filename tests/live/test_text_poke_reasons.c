/* SPDX-License-Identifier: MIT */
/*
 * What text_poke_bp() says where it refuses: what it has seen, not what comes after that. Mutants
 * text-align-later, text-emulate-as-new (tests/mutation).
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include <shunt/inspect.h>
#include <shunt/text_poke.h>

#include "../api/tap.h"
#include "../common/site_code.h"

static const uint8_t nop[SITE_LEN] = SITE_NOP;

static void refused_for(uint8_t *at, const void *insn, size_t len, const char *why)
{
	int ret = text_poke_bp(at, insn, len);

	ok(ret == -EINVAL && strstr(shunt_last_error(), why), "%s: %d, %s", why, ret,
	   shunt_last_error());
}

/* The reason is the first thing that is wrong, also beside and in the site of an earlier call. */
int main(void)
{
	static const uint8_t far[SITE_LEN] = SITE_JMP(16);
	uint8_t *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	shunt_set_log(NULL, NULL);
	if (code == MAP_FAILED) {
		skip("reasons", "no writable code here");
		return tap_done();
	}
	for (int i = 0; i < 4; i++)
		write_code(code + 8 * i, nop, SITE_LEN);
	ok(!text_poke_bp(code + 8, far, SITE_LEN), "a site");
	for (size_t i = 1; i < SITE_LEN; i++)
		refused_for(code + 8 + i, far, SITE_LEN,
			    SITE_ALIGN > 1 ? "not a multiple of 4"
					   : "overlaps one of an earlier call");
	refused_for(NULL, far, SITE_LEN, "the address is NULL");
	refused_for(code + 9, NULL, SITE_LEN, "the new instruction is NULL");
	refused_for(code + 9, far, 0, "no site has that length");
	refused_for(code + 9, far, 8, "no site has that length");
	if (SITE_ALIGN > 1)
		refused_for(code + 9, far, SITE_LEN - 1, "no site has that length");
	refused_for(code, "\xcc\xcc\xcc\xcc\xcc", SITE_LEN, "the new instruction is none");
	ok(text_poke_bp(code, far, SITE_LEN, "\xcc\xcc\xcc\xcc\xcc") == -EINVAL &&
		   strstr(shunt_last_error(), "the instruction to emulate is none"),
	   "what is to be emulated: %s", shunt_last_error());
	memset(code + 16, 0xcc, SITE_LEN);
	refused_for(code + 16, far, SITE_LEN, "the old instruction is none");
	text_poke_forget(code, 4096);
	(void)munmap(code, 4096);
	return tap_done();
}
