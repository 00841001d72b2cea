/*-------------------------------------------------------------------------
 *
 * http.c
 *	  Many HTTP calls at once from one PostgreSQL process.
 *
 * Called by the worker; calls http_slot.c, which knows about one call, and
 * curl.  No other file than these two includes curl.  One multi handle
 * reports its sockets into one epoll descriptor and its timer into one
 * deadline, so that http_wait() can wait for them together with the latch and
 * the postmaster.
 *
 * All state is static and malloc'd, so an ERROR elsewhere leaves nothing
 * behind that http_close() would not free.
 *
 * Name lookups run in threads of curl that inherit our signal mask.  Signals
 * are blocked whenever curl may start one, or a thread could run a handler of
 * PostgreSQL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "http_slot.h"

#include "storage/fd.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"
#include "utils/timestamp.h"

/* sockets served before the caller gets a turn */
#define EVENTS_PER_WAIT 64

/* more is not obeyed, so that a provider cannot park our rows for days */
#define RETRY_AFTER_MAXIMUM 86400

/* 9999-12-31: later ones are no dates of HTTP, which has four-digit years */
#define DATE_MAXIMUM INT64CONST(253402300799)

/* our epoll descriptor, and the one that WaitLatchOrSocket() makes */
#define OWN_FDS 2

/* left for others in this process when the quota would end with us */
#define SPARE_FDS 8

static CURLM *multi = NULL;
static int epoll_fd = -1;
static int reserved_fds = 0;

/* in microseconds of the monotonic clock; -1 when curl waits for no timer */
static int64 deadline = -1;

/* every signal that does not stem from the thread's own instruction */
static sigset_t blockable_signals;

static dlist_head free_slots = DLIST_STATIC_INIT(free_slots);
static dlist_head running_slots = DLIST_STATIC_INIT(running_slots);
static dlist_head done_slots = DLIST_STATIC_INIT(done_slots);
static dlist_head lent_slots = DLIST_STATIC_INIT(lent_slots);

static int requested = 0; /* as given to http_open() */
static int capacity = 0;  /* what the limit on open files allows of it */
static int in_flight = 0; /* running or done */
static int lent = 0;      /* collected, not yet released */

/* ---------- what curl calls ---------- */

/*
 * Keeps the epoll set equal to what curl watches.  A failure has no good way
 * to be reported from here (curl would give up all calls); the call then ends
 * by its timeout.
 */
static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct epoll_event event = {0};

	if (what == CURL_POLL_REMOVE)
	{
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}

	event.data.fd = fd;
	if (what != CURL_POLL_OUT)
		event.events |= EPOLLIN;
	if (what != CURL_POLL_IN)
		event.events |= EPOLLOUT;

	if (known != NULL)
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event);
	else
	{
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
		(void) curl_multi_assign(multi, fd, &epoll_fd);
	}
	return 0;
}

static int64
monotonic_now(void)
{
	struct timespec now;

	(void) clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int
set_timer(CURLM *handle, long timeout_ms, void *arg)
{
	deadline = timeout_ms < 0 ? -1 : monotonic_now() + (int64) timeout_ms * 1000;
	return 0;
}

/* ---------- slots ---------- */

static void
slots_destroy(dlist_head *list)
{
	while (!dlist_is_empty(list))
		slot_destroy(dlist_container(HttpSlot, node, dlist_pop_head_node(list)));
}

/* A free slot, made when needed; NULL when all are in use. */
static HttpSlot *
slot_take(void)
{
	HttpSlot *slot;

	if (in_flight + lent >= capacity)
		return NULL;

	/* the one used last: its memory is warm, and the others may be freed */
	if (!dlist_is_empty(&free_slots))
		return dlist_container(HttpSlot, node, dlist_pop_head_node(&free_slots));

	slot = slot_create();
	if (slot == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
						errdetail("Failed to set up a slot for an HTTP call.")));
	return slot;
}

/* Back to the free ones, or away when http_open() was told a lower number. */
static void
slot_recycle(HttpSlot *slot)
{
	slot_clear(slot);
	if (in_flight + lent < capacity)
		dlist_push_head(&free_slots, &slot->node);
	else
		slot_destroy(slot);
}

/* ---------- service ---------- */

/* Moves what curl has finished to the done ones. */
static void
harvest(void)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL *easy = message->easy_handle;
		CURLcode code = message->data.result;
		HttpSlot *slot = NULL;

		(void) curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &slot);
		(void) curl_multi_remove_handle(multi, easy); /* the message ends here */

		dlist_delete(&slot->node);
		slot_conclude(slot, code);
		dlist_push_tail(&done_slots, &slot->node);
	}
}

/*
 * What curl_multi_socket_action() returns is about the multi handle as a
 * whole and cannot be helped here; each call has its own result.
 */
static void
serve_timer(void)
{
	sigset_t previous;
	int running;

	if (deadline < 0 || deadline > monotonic_now())
		return;
	deadline = -1;

	(void) pthread_sigmask(SIG_BLOCK, &blockable_signals, &previous);
	(void) curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	(void) pthread_sigmask(SIG_SETMASK, &previous, NULL);
	harvest();
}

/* Serves the sockets that are ready, without waiting; false if none was. */
static bool
serve_sockets(void)
{
	struct epoll_event events[EVENTS_PER_WAIT];
	sigset_t previous;
	int running;
	int count = epoll_wait(epoll_fd, events, EVENTS_PER_WAIT, 0);

	if (count <= 0)
		return false;

	(void) pthread_sigmask(SIG_BLOCK, &blockable_signals, &previous);
	for (int i = 0; i < count; i++)
	{
		int what = 0;

		if (events[i].events & (EPOLLIN | EPOLLHUP))
			what |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			what |= CURL_CSELECT_OUT;
		if (events[i].events & EPOLLERR)
			what |= CURL_CSELECT_ERR;

		/* one that was closed by an earlier round of this loop is ignored */
		(void) curl_multi_socket_action(multi, events[i].data.fd, what, &running);
	}
	(void) pthread_sigmask(SIG_SETMASK, &previous, NULL);
	harvest();
	return true;
}

/* ---------- opening and closing ---------- */

static void
fds_release(int keep)
{
	while (reserved_fds > keep)
	{
		ReleaseExternalFD();
		reserved_fds--;
	}
}

/*
 * Announces one descriptor per connection, so that fd.c keeps fewer files
 * open instead of running into the limit.  Its quota for others is a third of
 * that limit; some of it is left, because a wait needs a descriptor, too.
 */
static void
capacity_adjust(int wanted)
{
	int target = wanted + OWN_FDS;

	fds_release(target);
	while (reserved_fds < target && AcquireExternalFD())
		reserved_fds++;
	if (reserved_fds < target)
		fds_release(Max(reserved_fds - SPARE_FDS, 0));

	capacity = reserved_fds - OWN_FDS;
	if (capacity < 1)
	{
		fds_release(0);
		capacity = 0;
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("too few file descriptors for HTTP calls"),
			 errhint(
				 "Raise max_files_per_process or the operating system's limit on open files.")));
	}
	if (capacity < wanted)
		ereport(
			LOG,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("only %d of %d HTTP calls can be in flight", capacity, wanted),
			 errdetail("The limit on open files of a server process allows no more connections."),
			 errhint(
				 "Lower janua_billing.max_in_flight, or raise max_files_per_process and the operating system's limit on open files.")));

	while (in_flight + lent >= capacity && !dlist_is_empty(&free_slots))
		slot_destroy(dlist_container(HttpSlot, node, dlist_pop_head_node(&free_slots)));
}

/* Once per process: other code in it may use curl, so this is never undone. */
static void
curl_prepare(void)
{
	static bool prepared = false;

	if (prepared)
		return;

	/* the headers may be newer than the library */
	if (curl_version_info(CURLVERSION_NOW)->version_num < CURL_MINIMUM)
		ereport(ERROR,
				(errcode(ERRCODE_SYSTEM_ERROR),
				 errmsg("libcurl %s is too old", curl_version_info(CURLVERSION_NOW)->version),
				 errdetail("Without a function of libcurl 7.85 a request could be sent twice.")));
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("could not set up libcurl")));

	(void) sigfillset(&blockable_signals);
	(void) sigdelset(&blockable_signals, SIGSEGV);
	(void) sigdelset(&blockable_signals, SIGBUS);
	(void) sigdelset(&blockable_signals, SIGFPE);
	(void) sigdelset(&blockable_signals, SIGILL);
	(void) sigdelset(&blockable_signals, SIGTRAP);
	(void) sigdelset(&blockable_signals, SIGABRT);
	prepared = true;
}

static bool
multi_limit_connections(void)
{
	long limit = capacity;

	return curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, limit) == CURLM_OK &&
		   curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, limit) == CURLM_OK &&
		   curl_multi_setopt(multi, CURLMOPT_MAX_HOST_CONNECTIONS, limit) == CURLM_OK;
}

static bool
multi_configure(void)
{
	return curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch_socket) == CURLM_OK &&
		   curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer) == CURLM_OK &&
		   curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING) == CURLM_OK &&
#if LIBCURL_VERSION_NUM >= 0x081400
		   curl_multi_setopt(multi, CURLMOPT_QUICK_EXIT, 1L) == CURLM_OK &&
#endif
		   multi_limit_connections();
}

void
http_open(int max_in_flight)
{
	Assert(max_in_flight > 0);

	if (multi != NULL && max_in_flight == requested)
		return;

	curl_prepare();
	capacity_adjust(max_in_flight);
	requested = max_in_flight;

	if (multi != NULL)
	{
		(void) multi_limit_connections();
		return;
	}

	deadline = -1;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
	{
		int saved_errno = errno;

		http_close();
		errno = saved_errno;
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR),
						errmsg("could not create an epoll descriptor for HTTP calls: %m")));
	}

	multi = curl_multi_init();
	if (multi == NULL || !multi_configure())
	{
		http_close();
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR),
						errmsg("could not set up libcurl for many calls at once")));
	}
}

void
http_close(void)
{
	dlist_iter iter;

	/* curl wants the calls out of the multi handle before they are freed */
	dlist_foreach (iter, &running_slots)
		(void) curl_multi_remove_handle(multi, dlist_container(HttpSlot, node, iter.cur)->easy);

	slots_destroy(&running_slots);
	slots_destroy(&done_slots);
	slots_destroy(&lent_slots);
	slots_destroy(&free_slots);
	in_flight = 0;
	lent = 0;

	if (multi != NULL)
		(void) curl_multi_cleanup(multi);
	multi = NULL;

	if (epoll_fd >= 0)
		(void) close(epoll_fd);
	epoll_fd = -1;

	fds_release(0);
	capacity = 0;
	requested = 0;
}

/* ---------- calls ---------- */

int
http_in_flight(void)
{
	return in_flight;
}

int
http_free_slots(void)
{
	return Max(capacity - in_flight - lent, 0);
}

bool
http_start(const HttpRequest *request, void *owner)
{
	HttpSlot *slot = slot_take();
	const char *reason;

	if (slot == NULL)
		return false;

	slot->owner = owner;
	in_flight++;

	reason = slot_prepare(slot, request);
	if (reason == NULL && curl_multi_add_handle(multi, slot->easy) != CURLM_OK)
		reason = curl_easy_strerror(CURLE_FAILED_INIT);
	if (reason != NULL)
	{
		slot_refuse(slot, reason);
		dlist_push_tail(&done_slots, &slot->node);
		return true;
	}

	/* adding made the timer due: serve it, so that the bytes leave now */
	dlist_push_tail(&running_slots, &slot->node);
	serve_timer();
	return true;
}

int
http_collect(HttpDone *done, int max)
{
	int count = 0;

	if (multi == NULL)
		return 0;

	serve_timer();
	while (count < max && !dlist_is_empty(&done_slots))
	{
		HttpSlot *slot = dlist_container(HttpSlot, node, dlist_pop_head_node(&done_slots));

		dlist_push_tail(&lent_slots, &slot->node);
		in_flight--;
		lent++;

		done[count].owner = slot->owner;
		done[count].response = slot->response;
		done[count].slot = slot;
		count++;
	}
	return count;
}

void
http_release(HttpDone *done)
{
	HttpSlot *slot = done->slot;

	/* http_close() has freed it already */
	if (multi == NULL || slot == NULL)
		return;

	done->slot = NULL;
	dlist_delete(&slot->node);
	lent--;
	slot_recycle(slot);
}

static void
cancel_in(dlist_head *list, void *owner)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify (iter, list)
	{
		HttpSlot *slot = dlist_container(HttpSlot, node, iter.cur);

		if (slot->owner != owner)
			continue;

		/* ends the connection when in use, does nothing when done */
		if (list == &running_slots)
			(void) curl_multi_remove_handle(multi, slot->easy);
		dlist_delete(&slot->node);
		in_flight--;
		slot_recycle(slot);
	}
}

void
http_cancel(void *owner)
{
	cancel_in(&running_slots, owner);
	cancel_in(&done_slots, owner);
}

/* The caller's timeout or curl's, whichever ends first; -1 for none. */
static long
wait_limit(long timeout_ms)
{
	int64 curl_ms;

	if (!dlist_is_empty(&done_slots))
		return 0;
	if (deadline < 0)
		return timeout_ms;

	/* rounded up, or the last millisecond would be spent spinning */
	curl_ms = Max((deadline - monotonic_now() + 999) / 1000, 0);
	return timeout_ms < 0 ? (long) curl_ms : (long) Min(curl_ms, timeout_ms);
}

bool
http_wait(long timeout_ms, uint32 wait_event)
{
	int events = WL_LATCH_SET | WL_SOCKET_READABLE | WL_EXIT_ON_PM_DEATH;
	long limit;
	bool served;
	bool woken;

	Assert(multi != NULL);

	/*
	 * Under load a socket is nearly always ready.  Looking first costs one
	 * system call, waiting for the latch at the same time costs eight.
	 */
	served = serve_sockets();
	serve_timer();
	limit = wait_limit(timeout_ms);

	if (served || limit == 0)
	{
		if (!PostmasterIsAlive())
			proc_exit(1);
	}
	else
	{
		if (limit > 0)
			events |= WL_TIMEOUT;
		if (WaitLatchOrSocket(MyLatch, events, epoll_fd, limit, wait_event) & WL_SOCKET_READABLE)
			(void) serve_sockets();
		serve_timer();
	}

	/* one that is set after this look ends the next wait at once */
	woken = MyLatch->is_set;
	if (woken)
		ResetLatch(MyLatch);
	return woken;
}

/* ---------- dates of an answer ---------- */

/* Any of the three date forms of RFC 9110, section 5.6.7. */
static bool
date_read(const char *text, time_t *result)
{
	*result = curl_getdate(text, NULL);
	return *result >= 0 && (int64) *result <= DATE_MAXIMUM;
}

int
http_retry_after(const HttpResponse *response)
{
	char *value = http_header(response, "Retry-After");
	size_t length = value != NULL ? strlen(value) : 0;
	time_t date;
	int64 seconds = -1;

	if (length == 0)
		return -1;

	if (strspn(value, "0123456789") == length)
		/* ten digits are above the maximum, whatever they are */
		seconds = length < 10 ? strtol(value, NULL, 10) : RETRY_AFTER_MAXIMUM;
	else if (date_read(value, &date))
		seconds = (int64) date - (int64) time(NULL);

	pfree(value);
	if (seconds < 0)
		return -1;
	return (int) Min(seconds, RETRY_AFTER_MAXIMUM);
}

bool
http_date(const HttpResponse *response, TimestampTz *date)
{
	char *value = http_header(response, "Date");
	time_t seconds;
	bool found;

	if (value == NULL)
		return false;

	found = date_read(value, &seconds);
	pfree(value);
	if (found)
		*date = time_t_to_timestamptz((pg_time_t) seconds);
	return found;
}
