/* SPDX-License-Identifier: MIT */
/*
 * A program makes its text execute-only, mprotect(PROT_EXEC), which is a protection key where the
 * CPU has them. A function there can be called by a key as any other; sites there cannot be changed
 * (-EFAULT), nor what lies on the pages beside.
 *
 * Control (SHUNT_CONTROL=believe): that it can be read is believed; a child that updates dies.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "../common/one_two.h"
#include "linux/text/area.h"

#define PAGE 4096ul

/* Alone on its page; before that there is a page of nops, and a call at its end. */
__asm__(".pushsection .text.hidden_page, \"ax\", @progbits\n"
	"	.balign 4096\n"
	"page_before:\n"
	"	.fill 4096 - 5, 1, 0x90\n"
	"last_call:\n"
	"	call hidden\n"
	"	.type hidden, @function\n"
	"hidden:\n"
	"	mov $7, %eax\n"
	"	ret\n"
	"	.balign 4096\n"
	"	.popsection\n");
int hidden(void);
extern uint8_t last_call[];

DEFINE_STATIC_CALL(shown, one);
DEFINE_STATIC_KEY_FALSE(shown_branch);

KEEP static int call_shown(void)
{
	return static_call(shown)() + (static_branch_unlikely(&shown_branch) ? 10 : 0);
}

bool __real_shunt_area_are_readable(uintptr_t addr, size_t len);
bool __wrap_shunt_area_are_readable(uintptr_t addr, size_t len);

bool __wrap_shunt_area_are_readable(uintptr_t addr, size_t len)
{
	return getenv("SHUNT_CONTROL") || __real_shunt_area_are_readable(addr, len);
}

/*
 * The page of @function; whether it cannot be read any more: by the CPU, which without protection
 * keys reads what the kernel lists as executable only.
 */
static bool hide(const void *function)
{
	void *page = (void *)((uintptr_t)function & -PAGE);

	return !mprotect(page, PAGE, PROT_EXEC) &&
	       syscall(SYS_rt_sigprocmask, -1, page, NULL, sizeof(uint64_t)) && errno == EFAULT;
}

static int count_site(const struct shunt_site_info *info, void *arg)
{
	*(unsigned *)arg += info->addr != NULL;
	return 0;
}

static int call_hidden(void)
{
	unsigned sites = 0;
	uint8_t old[5];

	if (!hide((const void *)hidden))
		return 77;
	memcpy(old, last_call, sizeof(old));
	return static_call_update(shown, hidden) || call_shown() != 7 ||
	       static_call_query(shown) != (void *)hidden || static_branch_enable(&shown_branch) ||
	       call_shown() != 17 || text_poke_bp(last_call, old, sizeof(old)) ||
	       text_poke_bp((void *)hidden, old, sizeof(old)) != -EFAULT ||
	       shunt_for_each_site("shown", count_site, &sites) || !sites ||
	       static_call_update(shown, two) || call_shown() != 12;
}

static int update_hidden(void)
{
	if (!hide((const void *)call_shown))
		return 77;
	return static_call_update(shown, two) != -EFAULT || call_shown() != 1 ||
	       static_call_query(shown) != (void *)one ||
	       static_branch_enable(&shown_branch) != -EFAULT || call_shown() != 1 ||
	       static_key_count(&shown_branch) || !strstr(shunt_last_error(), "cannot be read");
}

static void expect(int status, const char *what)
{
	if (status == 77)
		skip(what, "text that is not readable is not to be had");
	else
		ok(!status, "%s: %d", what, status);
}

int main(void)
{
	shunt_set_log(NULL, NULL);
	expect(in_child(call_hidden), "a function that cannot be read");
	expect(in_child(update_hidden), "sites that cannot be read");
	return tap_done();
}
