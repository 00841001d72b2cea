/*-------------------------------------------------------------------------
 *
 * curl_client.c
 *	  The reference of the benchmark: how many keep-alive POSTs a second a
 *	  bare curl client gets out of this machine.
 *
 *	  curl_client URL CONNECTIONS REQUESTS [body-bytes]
 *
 * One process, one multi handle, one epoll descriptor, no PostgreSQL.  Each
 * connection sends its next form as soon as it has the answer to the last.
 * Prints one line with requests, seconds, requests a second and the latency
 * in ms at the 50th and 99th percentile; exits with 1 when a request failed
 * or was not answered with 2xx.
 *
 * Build: cc -O2 -o curl_client curl_client.c -lcurl
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

#include <curl/curl.h>

#define EVENTS_PER_WAIT     64
#define CONNECTIONS_MAXIMUM 1000
#define REQUESTS_MAXIMUM    100000000
#define BODY_MAXIMUM        (1024 * 1024)
#define TIMEOUT_MS          30000L

typedef struct Connection
{
	CURL *easy;
	double started;
} Connection;

static CURLM *multi;
static int epoll_fd;
static double deadline = -1; /* seconds, -1 for none */

static double *latencies; /* seconds, of what was answered */
static int wanted;
static int started;
static int finished;
static int failed;

static void
give_up(const char *what)
{
	fprintf(stderr, "curl_client: %s\n", what);
	exit(2);
}

static double
now(void)
{
	struct timespec time;

	(void) clock_gettime(CLOCK_MONOTONIC, &time);
	return (double) time.tv_sec + (double) time.tv_nsec / 1e9;
}

static size_t
drop_body(char *data, size_t size, size_t count, void *arg)
{
	(void) data;
	(void) arg;
	return size * count;
}

static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	struct epoll_event event = {0};

	(void) easy;
	(void) arg;
	event.data.fd = fd;
	event.events = (what != CURL_POLL_OUT ? EPOLLIN : 0U) | (what != CURL_POLL_IN ? EPOLLOUT : 0U);

	if (what == CURL_POLL_REMOVE)
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	else if (known != NULL)
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_MOD, fd, &event);
	else
	{
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
		(void) curl_multi_assign(multi, fd, &epoll_fd);
	}
	return 0;
}

static int
set_timer(CURLM *handle, long timeout_ms, void *arg)
{
	(void) handle;
	(void) arg;
	deadline = timeout_ms < 0 ? -1 : now() + (double) timeout_ms / 1e3;
	return 0;
}

static void
start_next(Connection *connection)
{
	if (started == wanted)
		return;
	started++;
	connection->started = now();
	if (curl_multi_add_handle(multi, connection->easy) != CURLM_OK)
		give_up("could not start a request");
}

static void
harvest(void)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(multi, &left)) != NULL)
	{
		CURL *easy = message->easy_handle;
		CURLcode code = message->data.result;
		Connection *connection;
		long status = 0;

		(void) curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &connection);
		(void) curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
		(void) curl_multi_remove_handle(multi, easy);

		latencies[finished++] = now() - connection->started;
		if (code != CURLE_OK || status < 200 || status > 299)
		{
			if (failed++ == 0)
				fprintf(stderr, "curl_client: status %ld, %s\n", status, curl_easy_strerror(code));
		}
		start_next(connection);
	}
}

/* Waits for a socket or curl's timer, and serves it. */
static void
serve(void)
{
	struct epoll_event events[EVENTS_PER_WAIT];
	int timeout = 1000;
	int count;
	int running;

	if (deadline >= 0)
	{
		double left = deadline - now();

		timeout = left <= 0 ? 0 : left > 1 ? 1000 : (int) (left * 1e3) + 1;
	}

	count = epoll_wait(epoll_fd, events, EVENTS_PER_WAIT, timeout);
	for (int i = 0; i < count; i++)
	{
		int what = (events[i].events & (EPOLLIN | EPOLLHUP) ? CURL_CSELECT_IN : 0) |
				   (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
				   (events[i].events & EPOLLERR ? CURL_CSELECT_ERR : 0);

		(void) curl_multi_socket_action(multi, events[i].data.fd, what, &running);
	}
	harvest();

	if (deadline >= 0 && deadline <= now())
	{
		deadline = -1;
		(void) curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
		harvest();
	}
}

/* A form like those of a provider, "a=1&b=1&...", of any length. */
static char *
make_body(size_t length)
{
	static const char pattern[] = "amount=1099&currency=usd&customer=cus_1234567890&";
	char *body = malloc(length + 1);

	if (body == NULL)
		give_up("out of memory");
	for (size_t i = 0; i < length; i++)
		body[i] = pattern[i % (sizeof(pattern) - 1)];
	body[length] = '\0';
	return body;
}

static CURL *
make_easy(Connection *connection, const char *url, const char *body, size_t length,
		  struct curl_slist *headers)
{
	CURL *easy = curl_easy_init();

	if (easy == NULL)
		give_up("out of memory");
	(void) curl_easy_setopt(easy, CURLOPT_PRIVATE, connection);
	(void) curl_easy_setopt(easy, CURLOPT_URL, url);
	(void) curl_easy_setopt(easy, CURLOPT_PROXY, "");
	(void) curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	(void) curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
	(void) curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	(void) curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
	(void) curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long) length);
	(void) curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, drop_body);
	(void) curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, TIMEOUT_MS);
	return easy;
}

static int
compare(const void *a, const void *b)
{
	double left = *(const double *) a;
	double right = *(const double *) b;

	return (left > right) - (left < right);
}

static void
print_result(double seconds)
{
	qsort(latencies, (size_t) finished, sizeof(double), compare);
	printf("requests=%d seconds=%.3f rps=%.0f p50_ms=%.3f p99_ms=%.3f\n", finished, seconds,
		   finished / seconds, latencies[finished / 2] * 1e3,
		   latencies[(int) ((double) (finished - 1) * 0.99)] * 1e3);
}

static int
read_number(const char *text, int minimum, int maximum)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || number < minimum || number > maximum)
	{
		fprintf(stderr, "curl_client: \"%s\" is not a number from %d to %d\n", text, minimum,
				maximum);
		exit(2);
	}
	return (int) number;
}

int
main(int argc, char **argv)
{
	int count;
	size_t length;
	Connection *connections;
	char *body;
	struct curl_slist *headers;
	double begin;

	if (argc < 4 || argc > 5)
		give_up("usage: curl_client URL CONNECTIONS REQUESTS [body-bytes]");
	count = read_number(argv[2], 1, CONNECTIONS_MAXIMUM);
	wanted = read_number(argv[3], 1, REQUESTS_MAXIMUM);
	length = argc == 5 ? (size_t) read_number(argv[4], 0, BODY_MAXIMUM) : 200;

	connections = calloc((size_t) count, sizeof(Connection));
	latencies = calloc((size_t) wanted, sizeof(double));
	body = make_body(length);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (connections == NULL || latencies == NULL || epoll_fd < 0 ||
		curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || (multi = curl_multi_init()) == NULL)
		give_up("could not set up");

	(void) curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	(void) curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, set_timer);
	(void) curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) count);
	(void) curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) count);
	/* what a provider wants to have as well */
	headers = curl_slist_append(NULL, "Expect:");
	headers = curl_slist_append(headers, "Authorization: Bearer sk_test_123");
	headers = curl_slist_append(headers, "Idempotency-Key: 123");

	begin = now();
	for (int i = 0; i < count; i++)
	{
		connections[i].easy = make_easy(&connections[i], argv[1], body, length, headers);
		start_next(&connections[i]);
	}
	while (finished < wanted)
		serve();
	print_result(now() - begin);

	for (int i = 0; i < count; i++)
		curl_easy_cleanup(connections[i].easy);
	curl_slist_free_all(headers);
	curl_multi_cleanup(multi);
	curl_global_cleanup();
	free(connections);
	free(latencies);
	free(body);
	return failed > 0 ? 1 : 0;
}
