/* SPDX-License-Identifier: MIT */
/*
 * The calls that set handlers. sigaction() decides; the older ones are made of it as
 * the C library makes them, because its own ones do not come by here.
 */
#include <errno.h>

#include "signals/signals.h"

static bool is_signal(int sig)
{
	return sig > 0 && sig < NSIG;
}

static bool is_ours(int sig)
{
	shunt_signals_start();
	return sig == shunt_mirror() || (is_signal(sig) && shunt_bit(sig) & shunt_sync_bit());
}

int shunt_sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	struct sigaction kernel;

	if (is_ours(sig)) {
		errno = EINVAL;
		return -1;
	}
	if (sig == SIGTRAP)
		return shunt_trap_action(act, old);
	if (act) {
		kernel = *act;
		(void)shunt_set_in(&kernel.sa_mask, &act->sa_mask);
	}
	if (shunt_next.sigaction(sig, act ? &kernel : NULL, old))
		return -1;
	if (old)
		shunt_set_out(&old->sa_mask);
	return 0;
}

INTERPOSER int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return shunt_sigaction(sig, act, old);
}

/* ------------------------------------------------------------- signal() and kin */

static _Atomic uint64_t interrupting; /* of siginterrupt() */

static sighandler_t set_handler(int sig, sighandler_t handler, int flags, bool mask_itself)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = flags}, old;

	if (handler == SIG_ERR || !is_signal(sig)) {
		errno = EINVAL;
		return SIG_ERR;
	}
	if (mask_itself)
		shunt_set_mask(&act.sa_mask, shunt_bit(sig));
	return shunt_sigaction(sig, &act, &old) ? SIG_ERR : old.sa_handler;
}

static sighandler_t bsd(int sig, sighandler_t handler)
{
	bool interrupt = is_signal(sig) && atomic_load(&interrupting) & shunt_bit(sig);

	return set_handler(sig, handler, interrupt ? 0 : SA_RESTART, true);
}

static sighandler_t sysv(int sig, sighandler_t handler)
{
	return set_handler(sig, handler, (int)SA_RESETHAND | SA_NODEFER, false);
}

sighandler_t bsd_signal(int sig, sighandler_t handler);

INTERPOSER sighandler_t signal(int sig, sighandler_t handler)
{
	return bsd(sig, handler);
}

INTERPOSER sighandler_t bsd_signal(int sig, sighandler_t handler)
{
	return bsd(sig, handler);
}

INTERPOSER sighandler_t ssignal(int sig, sighandler_t handler)
{
	return bsd(sig, handler);
}

INTERPOSER sighandler_t sysv_signal(int sig, sighandler_t handler)
{
	return sysv(sig, handler);
}

INTERPOSER sighandler_t __sysv_signal(int sig, sighandler_t handler)
{
	return sysv(sig, handler);
}

INTERPOSER int siginterrupt(int sig, int interrupt)
{
	struct sigaction act;

	if (shunt_sigaction(sig, NULL, &act))
		return -1;
	if (interrupt) {
		atomic_fetch_or(&interrupting, shunt_bit(sig));
		act.sa_flags &= ~SA_RESTART;
	} else {
		atomic_fetch_and(&interrupting, ~shunt_bit(sig));
		act.sa_flags |= SA_RESTART;
	}
	return shunt_sigaction(sig, &act, NULL);
}

/* -------------------------------------------------------- sigset() and kin */

static int mask_one(int how, int sig, sigset_t *old)
{
	sigset_t set;

	(void)sigemptyset(&set);
	if (sigaddset(&set, sig))
		return -1;
	return shunt_sigprocmask(how, &set, old);
}

INTERPOSER int sighold(int sig)
{
	return mask_one(SIG_BLOCK, sig, NULL);
}

INTERPOSER int sigrelse(int sig)
{
	return mask_one(SIG_UNBLOCK, sig, NULL);
}

INTERPOSER int sigignore(int sig)
{
	return set_handler(sig, SIG_IGN, 0, false) == SIG_ERR ? -1 : 0;
}

INTERPOSER sighandler_t sigset(int sig, sighandler_t handler)
{
	struct sigaction act;
	sighandler_t old;
	sigset_t mask;

	if (handler == SIG_HOLD) {
		if (mask_one(SIG_BLOCK, sig, &mask))
			return SIG_ERR;
		if (sigismember(&mask, sig))
			return SIG_HOLD;
		return shunt_sigaction(sig, NULL, &act) ? SIG_ERR : act.sa_handler;
	}
	old = set_handler(sig, handler, 0, false);
	if (old == SIG_ERR || mask_one(SIG_UNBLOCK, sig, &mask))
		return SIG_ERR;
	return sigismember(&mask, sig) ? SIG_HOLD : old;
}

#ifdef SHUNT_SIGNALS_SHARED
int __sigaction(int sig, const struct sigaction *act, struct sigaction *old);

INTERPOSER int __sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
	return shunt_sigaction(sig, act, old);
}

/* For old binaries only: no header has it any more. */
struct sigvec {
	sighandler_t handler;
	int mask, flags;
};

#define SV_ONSTACK   1
#define SV_INTERRUPT 2
#define SV_RESETHAND 4

int sigvec(int sig, const struct sigvec *vec, struct sigvec *old);

static int from_sigvec(int sv)
{
	return (sv & SV_ONSTACK ? SA_ONSTACK : 0) | (sv & SV_INTERRUPT ? 0 : SA_RESTART) |
	       (sv & SV_RESETHAND ? (int)SA_RESETHAND : 0);
}

INTERPOSER int sigvec(int sig, const struct sigvec *vec, struct sigvec *old)
{
	struct sigaction act = {0}, was;

	if (vec) {
		act.sa_handler = vec->handler;
		act.sa_flags = from_sigvec(vec->flags);
		shunt_set_mask(&act.sa_mask, (unsigned)vec->mask);
	}
	if (shunt_sigaction(sig, vec ? &act : NULL, &was))
		return -1;
	if (old) {
		old->handler = was.sa_handler;
		old->mask = (int)shunt_mask(&was.sa_mask);
		old->flags = (was.sa_flags & SA_ONSTACK ? SV_ONSTACK : 0) |
			     (was.sa_flags & SA_RESTART ? 0 : SV_INTERRUPT) |
			     (was.sa_flags & (int)SA_RESETHAND ? SV_RESETHAND : 0);
	}
	return 0;
}
#endif
