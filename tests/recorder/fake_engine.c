/* SPDX-License-Identifier: MIT */
/* See fake_engine.h. Filters: the glob "none" matches nothing, all others everything. */
#include "fake_engine.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <shunt/inspect.h>

#include "arch/process.h"
#include "linux/base/base.h"
#include "linux/base/dl_list.h"
#include "linux/sync/sync.h"

struct fake_engine fake;

static void in_middle(void)
{
	if (fake.in_middle)
		fake.in_middle();
}

int shunt_raw_register(struct shunt_raw_ops *raw)
{
	if (fake.register_error)
		return fake.register_error;
	fake.off = 0;
	fake.raw = raw;
	in_middle();
	return 0;
}

int shunt_raw_unregister(struct shunt_raw_ops *raw)
{
	if (fake.raw != raw)
		return -EINVAL;
	in_middle();
	fake.raw = NULL;
	return 0;
}

void shunt_raw_on_unload(void (*fn)(const struct shunt_gone_module *module))
{
	(void)fn;
}

void shunt_saving_vectors(void (*fn)(void *), void *arg)
{
	fn(arg);
}

bool shunt_is_in_others_memory(void)
{
	return false;
}

int shunt_dl_iterate(int (*fn)(struct dl_phdr_info *info, size_t size, void *arg), void *arg)
{
	return dl_iterate_phdr(fn, arg);
}

static int count_changes(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	*(uint64_t *)arg = info->dlpi_adds + info->dlpi_subs;
	return 1;
}

uint64_t shunt_dl_changes(void)
{
	uint64_t n = 0;

	(void)dl_iterate_phdr(count_changes, &n);
	return n;
}

int shunt_sync_signal_number(void)
{
	return 0;
}

uint64_t shunt_returns_missed(void)
{
	return 0;
}

int ftrace_set_filter(struct ftrace_ops *ops, const char *glob, int len, int reset)
{
	(void)ops;
	(void)reset;
	return len == 4 && !strncmp(glob, "none", 4) ? -EINVAL : 0;
}

int ftrace_set_notrace(struct ftrace_ops *ops, const char *glob, int len, int reset)
{
	return ftrace_set_filter(ops, glob, len, reset);
}

int ftrace_set_filter_ip(struct ftrace_ops *ops, unsigned long ip, int remove, int reset)
{
	(void)ops;
	(void)reset;
	if (remove)
		fake.off |= 1ull << ((ip - FAKE_ENTRY(0)) / 16);
	return 0;
}

void ftrace_free_filter(struct ftrace_ops *ops)
{
	(void)ops;
}

int shunt_for_each_function(int (*fn)(const struct shunt_function_info *info, void *arg), void *arg)
{
	int err = 0;

	in_middle();
	for (int m = 0; m <= fake.extra_modules; m++) {
		for (unsigned i = 0; i < FAKE_FUNCTIONS && !err; i++) {
			char name[32], module[32];
			struct shunt_function_info info = {
				.name = name,
				.module = module,
				.addr = (void *)(uintptr_t)(FAKE_ENTRY(i) +
							    0x100000u * (unsigned)m),
				.kind = SHUNT_ENTRY_PATCHABLE,
				.nr_ops = fake.raw != NULL,
			};

			info.entry = info.addr;
			snprintf(name, sizeof(name), "function_%u", i);
			snprintf(module, sizeof(module), "module_%d", m);
			err = fn(&info, arg);
		}
	}
	return err;
}

const char *shunt_last_error(void)
{
	return fake.message;
}

void shunt_log_hold_here(bool hold)
{
	(void)hold;
}

void shunt_log_hold(bool hold)
{
	(void)hold;
}

void shunt_message(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(fake.message, sizeof(fake.message), format, args);
	va_end(args);
}
