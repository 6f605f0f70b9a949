/* SPDX-License-Identifier: MIT */
/*
 * An NMI that another CPU sends so that it is pending while CPU 0 executes a `sti`, for Bochs
 * with its CPUs in lockstep: one instruction each in turn.
 *
 * (What the stub itself stores in front of its `sti` comes in at that very instruction there,
 * which is in front of the shadow. QEMU takes it behind the next one, in the shadow.)
 *
 * The handler of #BP asks for a shot on its way out, and CPU 1 fires a number of instructions
 * later. That number follows where the last one has landed: in front of the shadow, then later;
 * behind it, then earlier. So shots go to and fro over the one instruction that is meant.
 *
 * Both ends take the time, which goes on by one with each instruction. From the shot to the
 * handler's first instruction it is always the same, unless the CPU holds the NMI back: that is
 * how one that was held back in the shadow is told from one that was fired behind it.
 */
#include "hazards.h"

#define LONGEST 256 /* instructions of delay; sniper.S has as many */

/* sniper.S */
extern struct {
	_Atomic uint32_t fire; /* 1: now */
	uint32_t delay;
	_Atomic uint32_t fired, landed; /* when */
} lab_sniper;
void lab_sniper_fire(void);
void lab_sniper_nmi(void);

static struct {
	bool there;
	_Atomic bool on_its_way;
	uintptr_t shadow;
	uint32_t flight; /* the least time from shot to handler */
	int32_t aim;     /* the delay that hits, as far as is known */
	int32_t step;    /* by which the delay changes; halves where it changes its sign */
} sniper;

static void lie_in_wait(void *arg)
{
	(void)arg;
	for (;;)
		lab_sniper_fire();
}

void lab_sniper_init(void)
{
	sniper.flight = (uint32_t)-1;
	sniper.step = LONGEST / 4;
	sniper.there = true;
	idt_set(VEC_NMI, lab_sniper_nmi, 0);
	smp_start(1, lie_in_wait, NULL);
	schedule_point();
}

bool lab_sniper_there(void)
{
	return sniper.there;
}

void lab_sniper_aim(uintptr_t shadow)
{
	sniper.shadow = shadow;
	sniper.on_its_way = true;
	lab_sniper.fire = 1;
}

/*
 * @sign: 1, the next shot later; -1, earlier. And a little to this side or that: CPU 1 waits in
 * a loop of two instructions, so that two shots of one delay may be one instruction apart.
 */
static void correct_aim(int32_t sign)
{
	static uint32_t shots;

	if ((sniper.step > 0) != (sign > 0)) {
		sniper.step = -sniper.step;
		if (sniper.step > 1 || sniper.step < -1)
			sniper.step /= 2;
	}
	sniper.aim += sniper.step;
	if (sniper.aim < 0)
		sniper.aim = 0;
	if (sniper.aim > LONGEST - 2)
		sniper.aim = LONGEST - 2;
	lab_sniper.delay = (uint32_t)sniper.aim + shots++ % 3;
}

enum lab_landing lab_sniper_landed(uintptr_t rip, uintptr_t target)
{
	uint32_t flight = lab_sniper.landed - lab_sniper.fired;
	bool behind = rip == target || lab_probe_reached();

	if (!sniper.on_its_way)
		return LANDED_BEFORE;
	sniper.on_its_way = false;
	if (flight < sniper.flight)
		sniper.flight = flight;
	if (rip == sniper.shadow)
		return LANDED_IN_SHADOW;
	correct_aim(behind ? -1 : 1);
	if (!behind)
		return LANDED_BEFORE;
	return rip == target && flight == sniper.flight + 1 ? LANDED_HELD : LANDED_BEHIND;
}

void lab_sniper_wait(void)
{
	while (sniper.on_its_way)
		pause();
}
