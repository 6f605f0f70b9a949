/* SPDX-License-Identifier: MIT */
/*
 * The port's two functions, and the trap path, wrapped by the linker: one call of them, or
 * all from one on, fails as it is told to.
 */
#include <string.h>

#include "linux/base/base.h"

#include "fault.h"

struct fault fault;

static const char *const write_steps[] = {"write int3", "write the tails", "write the first bytes"};
static const char *const sync_steps[] = {"core sync after int3", "core sync after the tails",
					 "core sync after the first bytes"};

static bool fires(enum what_fails what, size_t count)
{
	bool fire = fault.armed && fault.what == what &&
		    (fault.onwards ? count >= fault.at : count == fault.at);

	if (fire && !fault.step)
		fault.step = (what >= A_SYNC ? sync_steps : write_steps)[fault.seen[2]];
	fault.injected += fire;
	return fire;
}

struct control control;

static int injected(const char *call)
{
	shunt_failed_call = call;
	return -fault.error;
}

int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_core_sync(void);
enum shunt_trap __real_shunt_trap(struct shunt_regs *regs);
enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs);

enum shunt_trap __wrap_shunt_trap(struct shunt_regs *regs)
{
	return control.no_trap_path ? SHUNT_TRAP_FOREIGN : __real_shunt_trap(regs);
}

int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	size_t vector = ++fault.seen[1];
	int ret;

	if (control.no_way_back && fault.step)
		return 0;
	if (fires(A_VECTOR, vector))
		return injected("injected write");
	for (size_t i = 0; i < n; i++)
		if (fires(A_WRITE, ++fault.seen[0])) {
			ret = i ? __real_shunt_port_text_write(writes, i) : 0;
			return ret ? ret : injected("injected write");
		}
	ret = __real_shunt_port_text_write(writes, n);
	return !ret && fires(A_DONE_VECTOR, vector) ? injected("injected write") : ret;
}

int __wrap_shunt_port_core_sync(void)
{
	size_t sync = fault.seen[2] + 1;
	int ret = 0;

	if (fires(A_SYNC, sync)) {
		ret = injected("injected sync");
	} else {
		ret = __real_shunt_port_core_sync();
		if (!ret && fires(A_DONE_SYNC, sync))
			ret = injected("injected sync");
	}
	fault.seen[2] = sync;
	return ret;
}

void arm(enum what_fails what, size_t at, int error, bool onwards)
{
	memset(fault.seen, 0, sizeof(fault.seen));
	fault.step = NULL;
	fault.what = what;
	fault.at = at;
	fault.error = error;
	fault.onwards = onwards;
	fault.armed = true;
}

void disarm(void)
{
	fault.armed = false;
	memset(fault.seen, 0, sizeof(fault.seen));
}
