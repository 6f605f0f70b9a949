/* SPDX-License-Identifier: MIT */
/*
 * The flight recorder's file when a signal asks for it, or a fatal one comes. A session that the
 * environment asks for is written in order before the process dies of any signal.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "trace/finish.h"
#include "trace/ring.h"
#include "trace/save.h"
#include "trace/signals.h"
#include "trace/state.h"

/*
 * Those of a fault or of abort(); and those that end a process by default. SIGTRAP, which
 * __builtin_trap() is on some CPUs, is libshunt's where sites trap.
 */
static const int fatal[] = {
#if !SHUNT_HAS_TRAPS
	SIGTRAP,
#endif
	SIGSEGV, SIGBUS,    SIGILL,  SIGFPE,  SIGABRT, SIGSYS,  SIGTERM,
	SIGINT,  SIGHUP,    SIGQUIT, SIGALRM, SIGUSR1, SIGUSR2, SIGPIPE,
	SIGXCPU, SIGVTALRM, SIGPROF, SIGIO,   SIGPWR,  SIGXFSZ, SIGSTKFLT};
enum { FAULTS = 6 + !SHUNT_HAS_TRAPS, FATAL = sizeof(fatal) / sizeof(fatal[0]) };

static struct sigaction before_save;
static int save_signal;
static bool is_ours[FATAL]; /* the handler of fatal[i] */

static void on_save(int sig)
{
	(void)sig;
	trace_finish_names();
	trace_save_now(false);
}

/* The instruction that it comes from is run again, and has it again. */
static bool comes_again(int sig, const siginfo_t *info)
{
	return info->si_code > 0 &&
	       (sig == SIGSEGV || sig == SIGBUS || sig == SIGILL || sig == SIGFPE);
}

/* The default action, on this very instruction again, or by the same signal once more. */
static void on_crash(int sig, siginfo_t *info, void *context)
{
	struct sigaction dfl;

	(void)context;
	if (trace_shape.is_flight && !trace_is_autostart) {
		trace_finish_names();
		trace_save_now(true);
	} else {
		trace_finish(true);
	}
	memset(&dfl, 0, sizeof(dfl));
	dfl.sa_handler = SIG_DFL;
	(void)trace_sigaction(sig, &dfl, NULL);
	if (!comes_again(sig, info))
		(void)shunt_syscall(SYS_tgkill, shunt_own_pid(), shunt_own_tid(), sig, 0);
}

/* Where the program has a handler of its own, the signal is not known to be fatal. */
static int start_fatal(unsigned n)
{
	struct sigaction action, old;

	memset(&action, 0, sizeof(action));
	action.sa_sigaction = on_crash;
	action.sa_flags = SA_SIGINFO | SA_ONSTACK;
	(void)sigfillset(&action.sa_mask);
	for (unsigned i = 0; i < n; i++) {
		if (trace_sigaction(fatal[i], NULL, &old))
			return -errno;
		if (old.sa_handler != SIG_DFL)
			continue;
		if (trace_sigaction(fatal[i], &action, NULL))
			return -errno;
		is_ours[i] = true;
	}
	return 0;
}

bool trace_is_own_handler(const struct sigaction *action)
{
	return action->sa_flags & SA_SIGINFO && action->sa_sigaction == on_crash;
}

int trace_signals_start(const struct shunt_trace_options *options)
{
	struct sigaction action;
	int err = 0;

	memset(&action, 0, sizeof(action));
	action.sa_handler = on_save;
	action.sa_flags = SA_RESTART | SA_ONSTACK;
	(void)sigfillset(&action.sa_mask);
	if (options->save_signal && trace_sigaction(options->save_signal, &action, &before_save))
		return -errno;
	save_signal = options->save_signal;
	if (options->save_on_crash || trace_is_autostart)
		err = start_fatal(trace_is_autostart || options->save_on_crash > 1 ? FATAL
										   : FAULTS);
	if (err)
		trace_signals_stop();
	return err;
}

static bool is_handler_still(int sig, void (*handler)(int),
			     void (*with_info)(int, siginfo_t *, void *))
{
	struct sigaction now;

	if (trace_sigaction(sig, NULL, &now))
		return false;
	return now.sa_flags & SA_SIGINFO ? now.sa_sigaction == with_info
					 : now.sa_handler == handler;
}

/* What somebody else has installed since stays. */
void trace_signals_stop(void)
{
	struct sigaction dfl;

	memset(&dfl, 0, sizeof(dfl));
	dfl.sa_handler = SIG_DFL;
	if (save_signal && is_handler_still(save_signal, on_save, NULL))
		(void)trace_sigaction(save_signal, &before_save, NULL);
	save_signal = 0;
	for (unsigned i = 0; i < FATAL; i++) {
		if (is_ours[i] && is_handler_still(fatal[i], NULL, on_crash))
			(void)trace_sigaction(fatal[i], &dfl, NULL);
		is_ours[i] = false;
	}
}
