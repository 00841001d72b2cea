/*-------------------------------------------------------------------------
 *
 * http_text.c
 *	  The parts of HTTP that are only text: may this URL be called, may this
 *	  address be connected to, what does that header say, percent-encoding.
 *
 * Pure functions without curl, state or input and output, so that they can
 * be tested by themselves.  Called by http.c and, for headers and encoding,
 * by the providers.
 *
 * The URL is read here more strictly than curl reads it.  What curl would
 * have to interpret (user names, backslashes, blanks, odd spellings of an
 * address) is refused, so that there is nothing on which the two readers
 * could disagree.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <limits.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "http_text.h"

#include "lib/stringinfo.h"
#include "port/pg_bswap.h"

/* RFC 1035, section 2.3.4, without the dot of the root */
#define HOST_MAXIMUM 253

/* A block of IPv4 addresses that no provider on the internet can have. */
typedef struct AddressBlock
{
	uint32 network; /* host byte order */
	int bits;
} AddressBlock;

/* From the IANA special-purpose registry (RFC 6890) and multicast upwards. */
static const AddressBlock private_blocks[] = {
	{0x00000000, 8},  /* this network */
	{0x0a000000, 8},  /* private */
	{0x64400000, 10}, /* carrier-grade NAT, also cloud metadata */
	{0x7f000000, 8},  /* loopback */
	{0xa9fe0000, 16}, /* link-local, also cloud metadata */
	{0xac100000, 12}, /* private */
	{0xc0000000, 24}, /* protocol assignments */
	{0xc0a80000, 16}, /* private */
	{0xc6120000, 15}, /* benchmarks */
	{0xe0000000, 3},  /* multicast, reserved, broadcast */
};

/* An IPv6 prefix, and where an IPv4 address is embedded behind it. */
typedef struct AddressPrefix
{
	uint8 bytes[12];
	int length;   /* bytes of the prefix that count */
	int embedded; /* offset of the IPv4 address, 0 for none */
} AddressPrefix;

/*
 * The ways to spell an IPv4 address in IPv6: they lead where the embedded
 * address leads, so that one is judged.  :: and ::1 are below the last entry,
 * whose embedded address then is in 0.0.0.0/8.
 */
static const AddressPrefix embedding_prefixes[] = {
	{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 12, 12}, /* mapped */
	{{0x00, 0x64, 0xff, 0x9b}, 12, 12},                   /* NAT64 */
	{{0x20, 0x02}, 2, 2},                                 /* 6to4 */
	{{0}, 12, 12},                                        /* compatible */
};

static bool
ipv4_is_private(uint32 address)
{
	for (size_t i = 0; i < lengthof(private_blocks); i++)
	{
		uint32 mask = ~((uint32) 0) << (32 - private_blocks[i].bits);

		if ((address & mask) == private_blocks[i].network)
			return true;
	}
	return false;
}

static uint32
ipv4_from_bytes(const uint8 *bytes)
{
	uint32 network_order;

	memcpy(&network_order, bytes, sizeof(network_order));
	return pg_ntoh32(network_order);
}

static bool
ipv6_is_private(const uint8 *bytes)
{
	for (size_t i = 0; i < lengthof(embedding_prefixes); i++)
	{
		const AddressPrefix *prefix = &embedding_prefixes[i];

		if (memcmp(bytes, prefix->bytes, prefix->length) == 0)
			return ipv4_is_private(ipv4_from_bytes(bytes + prefix->embedded));
	}

	/* global unicast is 2000::/3; outside of it are local ones and multicast */
	return (bytes[0] & 0xe0) != 0x20;
}

static bool
ipv6_is_loopback(const uint8 *bytes)
{
	return memcmp(bytes, &in6addr_loopback, sizeof(in6addr_loopback)) == 0;
}

bool
http_address_allowed(const struct sockaddr *address, bool loopback)
{
	if (address->sa_family == AF_INET)
	{
		const struct sockaddr_in *in = (const struct sockaddr_in *) address;
		uint32 ip = pg_ntoh32(in->sin_addr.s_addr);

		return loopback ? (ip >> 24) == 127 : !ipv4_is_private(ip);
	}

	if (address->sa_family == AF_INET6)
	{
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) address;
		const uint8 *bytes = in6->sin6_addr.s6_addr;

		return loopback ? ipv6_is_loopback(bytes) : !ipv6_is_private(bytes);
	}

	return false;
}

static bool
host_is_loopback(const char *host)
{
	struct in_addr in;

	if (pg_strcasecmp(host, "localhost") == 0)
		return true;
	return inet_pton(AF_INET, host, &in) == 1 && (pg_ntoh32(in.s_addr) >> 24) == 127;
}

/* A port is absent, or a colon and a number from 1 to 65535. */
static bool
port_is_valid(const char *port, size_t length)
{
	int number = 0;

	if (length == 0)
		return true;
	if (port[0] != ':' || length < 2 || length > 6)
		return false;

	for (size_t i = 1; i < length; i++)
	{
		if (port[i] < '0' || port[i] > '9')
			return false;
		number = number * 10 + (port[i] - '0');
	}
	return number >= 1 && number <= 65535;
}

/* Reads "host", "host:port" or "[ipv6]:port". */
static bool
authority_read(const char *authority, size_t length, bool *loopback)
{
	char host[HOST_MAXIMUM + 1];
	size_t host_length;

	if (length > 0 && authority[0] == '[')
	{
		struct in6_addr in6;

		host_length = strcspn(authority, "]");
		if (host_length >= length || host_length > HOST_MAXIMUM)
			return false;
		memcpy(host, authority + 1, host_length - 1);
		host[host_length - 1] = '\0';
		if (inet_pton(AF_INET6, host, &in6) != 1)
			return false;
		*loopback = ipv6_is_loopback(in6.s6_addr);
		host_length++; /* the closing bracket */
	}
	else
	{
		host_length = strspn(authority,
							 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_");
		if (host_length == 0 || host_length > HOST_MAXIMUM)
			return false;
		memcpy(host, authority, host_length);
		host[host_length] = '\0';
		*loopback = host_is_loopback(host);
	}

	return port_is_valid(authority + host_length, length - host_length);
}

bool
http_target_read(const char *url, HttpTarget *target, const char **reason)
{
	const char *authority;
	size_t length;

	*reason = NULL;

	for (const char *p = url; *p != '\0'; p++)
	{
		if (*p <= ' ' || *p >= 0x7f || *p == '\\')
			*reason =
				"URL holds a blank, a backslash, a control character or a byte that is not ASCII";
	}
	if (*reason != NULL)
		return false;

	target->tls = pg_strncasecmp(url, "https://", 8) == 0;
	if (!target->tls && pg_strncasecmp(url, "http://", 7) != 0)
	{
		*reason = "URL is not https";
		return false;
	}

	authority = url + (target->tls ? 8 : 7);
	length = strcspn(authority, "/?#");
	if (memchr(authority, '@', length) != NULL)
		*reason = "URL holds a user name";
	else if (!authority_read(authority, length, &target->loopback))
		*reason = "URL has no valid host and port";
	else if (!target->tls && !target->loopback)
		*reason = "URL is not https, and its host is not the loopback host";

	return *reason == NULL;
}

bool
http_url_allowed(const char *url, const char **reason)
{
	HttpTarget target;

	return http_target_read(url, &target, reason);
}

char *
http_header(const HttpResponse *response, const char *name)
{
	size_t name_length = strlen(name);
	const char *line = response->headers;

	while (*line != '\0')
	{
		size_t length = strcspn(line, "\n");

		if (length > name_length && line[name_length] == ':' &&
			pg_strncasecmp(line, name, name_length) == 0)
		{
			const char *value = line + name_length + 1;
			const char *end = line + length;

			while (value < end && (*value == ' ' || *value == '\t'))
				value++;
			while (end > value && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
				end--;
			return pnstrdup(value, end - value);
		}

		line += length;
		if (*line == '\n')
			line++;
	}
	return NULL;
}

void
http_escape(struct StringInfoData *out, const char *text, size_t length)
{
	static const char hex[] = "0123456789ABCDEF";

	enlargeStringInfo(out, (int) Min(length, INT_MAX));
	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = (unsigned char) text[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			c == '-' || c == '_' || c == '.' || c == '~')
			appendStringInfoCharMacro(out, (char) c);
		else
		{
			char code[3] = {'%', hex[c >> 4], hex[c & 0x0f]};

			appendBinaryStringInfo(out, code, sizeof(code));
		}
	}
}
