/* SPDX-License-Identifier: MIT */
/* Somebody traces, or asks what could be: modules are looked for from now on. */
#include <elf.h>
#include <link.h>

#include <shunt/port.h>

#include "core/ftrace.h"
#include "linux/entry/context.h"
#include "linux/entry/modules.h"

/* Where the dynamic linker of a program has its records; 0: it has none. */
static int find_debug(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	for (size_t i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Dyn) * dyn;

		if (info->dlpi_phdr[i].p_type != PT_DYNAMIC)
			continue;
		/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
		dyn = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
		for (; dyn->d_tag != DT_NULL; dyn++)
			if (dyn->d_tag == DT_DEBUG)
				*(uintptr_t *)arg = dyn->d_un.d_ptr;
	}
	return 1; /* the first is the program */
}

void shunt_port_entries_wanted(void)
{
	const char *earlier;
	uintptr_t debug = 0;

	if (!shunt_libc_has_started() || shunt_is_in_callback())
		return;
	earlier = shunt_failed_call;
	shunt_sets_reclaim();
	if (shunt_sets_lock(true))
		return; /* whoever asks is told so when he takes it himself */
	if (!shunt_notice_was_tried()) {
		shunt_sets_in_loader(true);
		(void)dl_iterate_phdr(find_debug, &debug);
		shunt_sets_in_loader(false);
		shunt_notice_start(debug);
	}
	shunt_modules_update();
	shunt_sets_unlock();
	shunt_failed_call = earlier;
}
