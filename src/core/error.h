/* SPDX-License-Identifier: MIT */
/*
 * Error numbers for code that has no errno.h: the values of Linux, so that what
 * the core returns can go to the caller of the process library as it is (a
 * static assertion in src/linux holds the two together).
 */
#ifndef SHUNT_CORE_ERROR_H
#define SHUNT_CORE_ERROR_H

#define SHUNT_EPERM     1  /* the platform forbids it */
#define SHUNT_EIO       5  /* text could not be written or read */
#define SHUNT_EAGAIN    11 /* not now */
#define SHUNT_ENOMEM    12 /* out of memory */
#define SHUNT_EFAULT    14 /* it is not mapped, or cannot be read */
#define SHUNT_EBUSY     16 /* somebody else's bytes stand at the site */
#define SHUNT_EINVAL    22 /* a bad argument */
#define SHUNT_ERANGE    34 /* out of reach of a displacement */
#define SHUNT_EDEADLK   35 /* called from within an update of the same thread */
#define SHUNT_ENOSYS    38 /* the platform has no such thing */
#define SHUNT_EOVERFLOW 75 /* a count is at its end */

#endif
