/*-------------------------------------------------------------------------
 *
 * janua_billing.c
 *	  Entry of the library: settings and registrations.
 *
 * Each room defines its own settings; this file only calls them, and has the
 * one switch that concerns all.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "accounts.h"
#include "http.h"
#include "keys.h"
#include "utils/guc.h"
#include "worker.h"

JANUA_MODULE_MAGIC;

bool billing_restoring = false;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	/* pg_upgrade starts the old and the new server: nothing of ours may run there */
	if (IsBinaryUpgrade)
		return;
	DefineCustomBoolVariable("janua_billing.restoring",
							 "Keeps the triggers of janua_billing quiet.",
							 "For loading data that was billed elsewhere, such as a restore.",
							 &billing_restoring, false, PGC_SUSET, 0, NULL, NULL, NULL);
	keys_init();
	accounts_init();
	http_init();
	organizations_init();
	MarkGUCPrefixReserved("janua_billing");
	worker_init();
}
