/* SPDX-License-Identifier: MIT */
/*
 * A small server: two threads answer requests, and one request in a hundred is slow. Which one, and
 * in which function its time goes, is seen by
 *
 *	shunt trace --min 1ms -- slow_request
 *	shunt replay shunt.trace
 *
 * without a line of this file that knows of it; it only has to be compiled with room at the entries
 * of its functions: -fpatchable-function-entry=5 (on aarch64 2 are enough).
 */
#include <pthread.h>
#include <stdio.h>
#include <time.h>

enum { REQUESTS = 100, SLOW = 42 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int next_request;
static int answered;
static _Atomic int bytes;

__attribute__((noinline)) static void wait_for_disk(void)
{
	nanosleep(&(struct timespec){0, 20000000}, NULL);
}

__attribute__((noinline)) static int look_up(int request)
{
	if (request == SLOW)
		wait_for_disk();
	return request * 2;
}

__attribute__((noinline)) static int handle_request(int request)
{
	return look_up(request) + 1;
}

static int take_request(void)
{
	int request;

	pthread_mutex_lock(&lock);
	request = next_request < REQUESTS ? next_request++ : -1;
	answered += request >= 0;
	pthread_mutex_unlock(&lock);
	return request;
}

static void *serve(void *arg)
{
	for (int request = take_request(); request >= 0; request = take_request())
		bytes += handle_request(request);
	return arg;
}

int main(void)
{
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, serve, NULL))
			return 1;
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	printf("%d requests answered\n", answered);
	return 0;
}
