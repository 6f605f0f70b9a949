/* SPDX-License-Identifier: MIT */
/*
 * An NMI that another CPU sends so that it is pending while CPU 0 executes a `sti`, for Bochs
 * with its CPUs in lockstep: one instruction each in turn.
 *
 * (What the stub itself stores in front of its `sti` comes in at that very instruction there,
 * which is in front of the shadow. QEMU takes it behind the next one, in the shadow.)
 *
 * The handler of #BP asks for an NMI on its way out, and CPU 1 sends it a number of instructions
 * later. That number follows where the last one came in: in front of the shadow, then later;
 * behind it, then earlier. So they come in on both sides of the one instruction that is meant.
 *
 * Both ends take the time, which goes on by one with each instruction. From the store that sends an
 * NMI to the handler's first instruction it is always the same, unless the CPU holds the NMI back:
 * that is how one that was held back in the shadow is told from one that was sent behind it.
 */
#include "hazards.h"

#define LONGEST 256 /* instructions of delay; timed_nmi.S has as many */

/* timed_nmi.S */
extern struct {
	_Atomic uint32_t fire; /* 1: now */
	uint32_t delay;
	_Atomic uint32_t fired, landed; /* when */
} lab_timed_nmi;
void lab_timed_nmi_fire(void);
void lab_timed_nmi_entry(void);

static struct {
	bool there;
	_Atomic bool on_its_way;
	uintptr_t shadow;
	uint32_t flight; /* the least time from the store to the handler */
	int32_t aim;     /* the delay for the shadow, as far as is known */
	int32_t step;    /* by which the delay changes; halves where it changes its sign */
} nmi;

static void send_when_asked(void *arg)
{
	(void)arg;
	for (;;)
		lab_timed_nmi_fire();
}

void lab_timed_nmi_init(void)
{
	nmi.flight = (uint32_t)-1;
	nmi.step = LONGEST / 4;
	nmi.there = true;
	idt_set(VEC_NMI, lab_timed_nmi_entry, 0);
	smp_start(1, send_when_asked, NULL);
	schedule_point();
}

bool lab_timed_nmi_there(void)
{
	return nmi.there;
}

void lab_timed_nmi_aim(uintptr_t shadow)
{
	nmi.shadow = shadow;
	nmi.on_its_way = true;
	lab_timed_nmi.fire = 1;
}

/*
 * @sign: 1, the next NMI later; -1, earlier. And a little to this side or that: CPU 1 waits in
 * a loop of two instructions, so that two of one delay may be one instruction apart.
 */
static void correct_aim(int32_t sign)
{
	static uint32_t sent;

	if ((nmi.step > 0) != (sign > 0)) {
		nmi.step = -nmi.step;
		if (nmi.step > 1 || nmi.step < -1)
			nmi.step /= 2;
	}
	nmi.aim += nmi.step;
	if (nmi.aim < 0)
		nmi.aim = 0;
	if (nmi.aim > LONGEST - 2)
		nmi.aim = LONGEST - 2;
	lab_timed_nmi.delay = (uint32_t)nmi.aim + sent++ % 3;
}

enum lab_landing lab_timed_nmi_landed(uintptr_t rip, uintptr_t target)
{
	uint32_t flight = lab_timed_nmi.landed - lab_timed_nmi.fired;
	bool behind = rip == target || lab_probe_reached();

	if (!nmi.on_its_way)
		return LANDED_BEFORE;
	nmi.on_its_way = false;
	if (flight < nmi.flight)
		nmi.flight = flight;
	if (rip == nmi.shadow)
		return LANDED_IN_SHADOW;
	correct_aim(behind ? -1 : 1);
	if (!behind)
		return LANDED_BEFORE;
	return rip == target && flight == nmi.flight + 1 ? LANDED_HELD : LANDED_BEHIND;
}

void lab_timed_nmi_wait(void)
{
	while (nmi.on_its_way)
		pause();
}
