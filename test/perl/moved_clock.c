/*
 * moved_clock.c
 *		Another time of day for single backends of a server under test.
 *
 * Preloaded into the postmaster by the dynamic linker. A process reads the
 * seconds since 1970 from the file that has its process id for a name, in the
 * directory MOVED_CLOCK; without the file it sees the real time. PostgreSQL
 * takes its time stamps from gettimeofday(), also in signal handlers: hence no
 * call here that could allocate memory.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	const char *directory = getenv("MOVED_CLOCK");
	struct timespec real;
	char text[4096];
	ssize_t length = 0;
	int file = -1;

	(void) zone;
	clock_gettime(CLOCK_REALTIME, &real);
	now->tv_sec = real.tv_sec;
	now->tv_usec = real.tv_nsec / 1000;
	if (directory != NULL)
	{
		snprintf(text, sizeof(text), "%s/%d", directory, (int) getpid());
		file = open(text, O_RDONLY);
	}
	if (file >= 0)
	{
		length = read(file, text, sizeof(text) - 1);
		close(file);
	}
	if (length > 0)
	{
		text[length] = '\0';
		now->tv_sec = (time_t) strtoll(text, NULL, 10);
		now->tv_usec = 0;
	}
	return 0;
}
