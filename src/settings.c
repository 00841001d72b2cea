/*-------------------------------------------------------------------------
 *
 * settings.c
 *	  Business settings, the rows of billing.settings.
 *
 * They are read where they are needed and kept nowhere, so that a change
 * counts from the statement after it (those of webhooks are kept, and forgotten
 * with a change, in webhook_keys.c).  The table itself checks that a value
 * fits its kind.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

QUERY(text_setting, "SELECT value FROM billing.settings WHERE name = $1", TEXTOID);
QUERY(int_setting, "SELECT value::bigint FROM billing.settings WHERE name = $1", TEXTOID);
QUERY(seconds_setting,
	  "SELECT extract(epoch FROM value::interval)::float8 FROM billing.settings WHERE name = $1",
	  TEXTOID);

char *
setting_text(const char *name)
{
	if (RUN(text_setting, arg_text(name)) == 0)
		return NULL;
	return row_text(0, 1);
}

int64
setting_int(const char *name, int64 fallback)
{
	if (RUN(int_setting, arg_text(name)) == 0 || row_null(0, 1))
		return fallback;
	return row_int(0, 1);
}

double
setting_seconds(const char *name, double fallback)
{
	bool isnull;
	Datum value;

	if (RUN(seconds_setting, arg_text(name)) == 0)
		return fallback;
	value = rows_datum(SPI_tuptable, 0, 1, &isnull);
	return isnull ? fallback : DatumGetFloat8(value);
}
