/*-------------------------------------------------------------------------
 *
 * errors.c
 *	  What an ERROR is, in words that quote nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "compat.h"

#include "errors.h"

/* By the beginning of the SQLSTATE; the first one that fits counts. */
static const struct
{
	const char *prefix;
	const char *words;
} meanings[] = {
	{"JB004", "not supported"},
	{"JB005", "unknown object"},
	{"JB006", "provider not configured"},
	{"JB007", "idempotency key used with other arguments"},
	{"JB008", "the state does not allow it"},
	{"JB009", "raw card number"},
	{"JB011", "live and test would be mixed"},
	{"JB012", "no key file, or no key of it opens the value"},
	{"JB014", "a country that nothing may be sold to"},
	{"JB", "refused by billing"},
	{"22", "data exception"},
	{"23", "integrity constraint violation"},
	{"40", "transaction rollback"},
	{"42501", "insufficient privilege"},
	{"42", "syntax error or access rule violation"},
	{"53", "insufficient resources"},
	{"54", "program limit exceeded"},
	{"55P03", "lock not available"},
	{"55", "object not in prerequisite state"},
	{"57", "operator intervention"},
	{"58", "system error"},
	{"P0", "raised by a trigger or function"},
	{"XX", "internal error"},
};

const char *
error_in_words(const char *sqlstate)
{
	const char *words = "error";

	for (int i = 0; i < (int) lengthof(meanings); i++)
	{
		if (strncmp(sqlstate, meanings[i].prefix, strlen(meanings[i].prefix)) == 0)
		{
			words = meanings[i].words;
			break;
		}
	}
	return psprintf("%s: %s; the message is in the server's log", sqlstate, words);
}
