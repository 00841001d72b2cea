/*-------------------------------------------------------------------------
 *
 * compat.h
 *	  Differences between PostgreSQL 15, 16, 17 and 18, all in one place.
 *
 * Every file of the core that runs inside the server includes this header
 * right after postgres.h; no other file asks for PG_VERSION_NUM.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_COMPAT_H
#define JANUA_COMPAT_H

#include "postgres.h"

#include "catalog/pg_database.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#if PG_VERSION_NUM >= 160000
#include "nodes/miscnodes.h"
#endif
#include "pgstat.h"
#include "storage/proc.h"
#include "utils/wait_event.h"

#if PG_VERSION_NUM < 150000
#error "janua_billing needs PostgreSQL 15 or newer"
#endif

#if PG_VERSION_NUM >= 180000
#define JANUA_MODULE_MAGIC PG_MODULE_MAGIC_EXT(.name = "janua_billing", .version = JANUA_VERSION)
#else
#define JANUA_MODULE_MAGIC PG_MODULE_MAGIC
#endif

/*
 * The name under which a wait of ours is shown in pg_stat_activity.  Own
 * names exist since 17; before, every extension waits as "Extension".
 */
static inline uint32
compat_wait_event(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	(void) name;
	return PG_WAIT_EXTENSION;
#endif
}

/* The first release of 15 had another name for it. */
#ifndef MAT_SRF_USE_EXPECTED_DESC
#define MAT_SRF_USE_EXPECTED_DESC SRF_SINGLE_USE_EXPECTED
#define InitMaterializedSRF       SetSingleFuncCall
#endif

/* What these functions of the executor and of index scans take besides. */
#if PG_VERSION_NUM >= 160000
#define compat_insert_index_tuples(info, slot, estate, conflict_ok, conflict, arbiters) \
	ExecInsertIndexTuples(info, slot, estate, false, conflict_ok, conflict, arbiters, false)
#else
#define compat_insert_index_tuples(info, slot, estate, conflict_ok, conflict, arbiters) \
	ExecInsertIndexTuples(info, slot, estate, false, conflict_ok, conflict, arbiters)
#endif
#if PG_VERSION_NUM >= 180000
#define compat_check_index_constraints(info, slot, estate, conflict, arbiters) \
	ExecCheckIndexConstraints(info, slot, estate, conflict, NULL, arbiters)
#define compat_index_beginscan(heap, index, snapshot, keys) \
	index_beginscan(heap, index, snapshot, NULL, keys, 0)
#else
#define compat_check_index_constraints(info, slot, estate, conflict, arbiters) \
	ExecCheckIndexConstraints(info, slot, estate, conflict, arbiters)
#define compat_index_beginscan(heap, index, snapshot, keys) \
	index_beginscan(heap, index, snapshot, keys, 0)
#endif

/* What the input function of a type makes of a text; false when it cannot be read. */
static inline bool
compat_read_text(PGFunction input, char *written, Datum *value)
{
#if PG_VERSION_NUM >= 160000
	ErrorSaveContext errors = {T_ErrorSaveContext};

	return DirectInputFunctionCallSafe(input, written, InvalidOid, -1, (Node *) &errors, value);
#else
	MemoryContext memory = CurrentMemoryContext;
	volatile bool read = false;

	PG_TRY();
	{
		*value = DirectFunctionCall3(input, CStringGetDatum(written), ObjectIdGetDatum(InvalidOid),
									 Int32GetDatum(-1));
		read = true;
	}
	PG_CATCH();
	{
		/* an input function holds nothing that had to be given back */
		MemoryContextSwitchTo(memory);
		if (ERRCODE_TO_CATEGORY(geterrcode()) != ERRCODE_DATA_EXCEPTION)
			PG_RE_THROW();
		FlushErrorState();
	}
	PG_END_TRY();
	return read;
#endif
}

/* What an update of a tuple says about its indexes. */
#if PG_VERSION_NUM >= 160000
#define CompatIndexUpdate                TU_UpdateIndexes
#define compat_index_update_needed(told) ((told) != TU_None)
#else
#define CompatIndexUpdate                bool
#define compat_index_update_needed(told) (told)
#endif

/* The connection limit of what an interrupted DROP DATABASE left; 15.0 to 15.3 do not name it. */
#ifndef DATCONNLIMIT_INVALID_DB
#define DATCONNLIMIT_INVALID_DB (-2)
#endif

/* A stack-allocated array in PG_TRY blocks and callbacks needs no more. */
#ifndef JANUA_EXPORT
#define JANUA_EXPORT PGDLLEXPORT
#endif

#endif /* JANUA_COMPAT_H */
