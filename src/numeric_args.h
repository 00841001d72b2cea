/*-------------------------------------------------------------------------
 *
 * numeric_args.h
 *	  numeric as an argument of SQL-callable functions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_NUMERIC_ARGS_H
#define JANUA_NUMERIC_ARGS_H

#include "utils/numeric.h"

/* NULL for SQL NULL. */
#define ARG_NUMERIC(n) (PG_ARGISNULL(n) ? NULL : PG_GETARG_NUMERIC(n))

#endif /* JANUA_NUMERIC_ARGS_H */
