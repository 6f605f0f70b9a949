/* SPDX-License-Identifier: MIT */
/* Files of /proc/self that are kept open. */
#include "linux/text/proc_file.h"
#include "linux/base/alone.h"
#include "linux/base/base.h"
#include "linux/base/descriptor.h"
#include "linux/base/first_thread.h"
#include "linux/base/syscall.h"

bool shunt_proc_file_is_open(const struct shunt_proc_file *file, const int32_t *slot)
{
	return *slot > 0 && shunt_fd_is_kept(*slot - 1, file->fd_offset);
}

static struct shunt_proc_file *passing;

/* The error is that of a way that is closed; the call, and what it has given, is named. */
static int open_kept(struct shunt_proc_file *file)
{
	const char *earlier = shunt_failed_call;
	int fd;

	shunt_failed_call = NULL;
	fd = shunt_fd_open_kept(file->path, file->flags, &file->fd_offset);
	if (fd >= 0)
		shunt_failed_call = earlier;
	if (fd >= 0 || shunt_failed_call) /* lseek() */
		return fd;
	shunt_failed_call = fd == -ENOENT   ? file->absent
			    : fd == -EACCES ? file->denied
					    : file->open_call;
	return shunt_error_of_closed(fd);
}

int shunt_proc_file_open(struct shunt_proc_file *file, int32_t *slot)
{
	uint64_t alone = shunt_alone_batch();
	int fd;

	if (file->of_thread && file->of_thread != shunt_own_tid())
		shunt_proc_file_close(file, slot);
	if (alone && *slot > 0 && file->seen_alone == alone)
		return *slot - 1;
	file->seen_alone = alone;
	if (shunt_proc_file_is_open(file, slot))
		return *slot - 1;
	if (*slot > 0)
		shunt_fd_count_loss(*slot - 1, &file->losses);
	*slot = 0;
	fd = open_kept(file);
	if (fd < 0)
		return fd;
	/* As without /proc. Before anything is written to it, or believed that it says. */
	if (!shunt_fd_is_proc(fd)) {
		shunt_fd_close(fd);
		shunt_failed_call = file->not_proc;
		return -ENOSYS;
	}
	*slot = fd + 1;
	file->last_fd = fd;
	file->of_thread = shunt_first_thread_has_ended() ? shunt_own_tid() : 0;
	if (file->losses == SHUNT_MAX_LOSSES && !file->passing) {
		file->passing = slot;
		file->next_passing = passing;
		passing = file;
	}
	return fd;
}

void shunt_proc_file_copied(struct shunt_proc_file *file, int32_t *slot)
{
	int fd = file->last_fd;

	*slot = 0;
	file->last_fd = -1;
	if (fd < 0 || !shunt_fd_is_kept(fd, file->fd_offset))
		return;
	shunt_fd_close(fd);
	(void)shunt_proc_file_open(file, slot);
}

void shunt_proc_file_close(struct shunt_proc_file *file, int32_t *slot)
{
	if (shunt_proc_file_is_open(file, slot))
		shunt_fd_close(*slot - 1);
	*slot = 0;
	file->last_fd = -1;
	file->of_thread = 0;
}

void shunt_proc_files_done(void)
{
	while (passing) {
		struct shunt_proc_file *file = passing;

		passing = file->next_passing;
		shunt_proc_file_close(file, file->passing);
		file->passing = NULL;
	}
}
