/* SPDX-License-Identifier: MIT */
/* Somebody traces, or asks what could be: modules are looked for from now on. */
#include <elf.h>
#include <link.h>

#include <shunt/port.h>

#include "core/ftrace.h"
#include "linux/base/dl_list.h"
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

/* With a line into @text, if it is not NULL, where there is something to be told. */
static bool look(char *text, size_t size)
{
	const char *earlier;
	uintptr_t debug = 0;
	bool is_untold;

	if (!shunt_libc_has_started() || shunt_is_in_callback())
		return false;
	earlier = shunt_failed_call;
	shunt_sets_reclaim();
	if (shunt_sets_lock(true))
		return false; /* whoever asks is told so when he takes it himself */
	if (!shunt_notice_was_tried()) {
		shunt_sets_in_loader(true);
		(void)shunt_dl_iterate(find_debug, &debug);
		shunt_sets_in_loader(false);
		shunt_notice_start(debug);
	}
	shunt_modules_update(true);
	is_untold = text && shunt_modules_untold(text, size);
	shunt_sets_unlock();
	shunt_failed_call = earlier;
	return is_untold;
}

void shunt_modules_look(void)
{
	(void)look(NULL, 0);
}

void shunt_port_entries_wanted(void)
{
	char text[SHUNT_MESSAGE_MAX];

	if (look(text, sizeof(text)))
		shunt_message("%s", text);
}
