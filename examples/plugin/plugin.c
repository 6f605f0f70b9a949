/* SPDX-License-Identifier: MIT */
/* A plugin for host.c: an ordinary shared object that exports filter(). */
int filter(int sample);

int filter(int sample)
{
	int loud = 3 * sample;

	return loud > 400 ? 400 : loud < -400 ? -400 : loud;
}
