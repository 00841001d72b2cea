/*-------------------------------------------------------------------------
 *
 * usage_reader.c
 *	  What the SQL functions that read usage have in common.
 *
 * They run as their caller, since a tenant may call them: first it is checked
 * whose usage that may be, as the policies of row level security do, then they
 * take the owner's identity.
 *
 * A view calls them for one organisation after the other.  Each of the first
 * few reads its own tail; after that the tail of everybody is read, once for
 * the rest of the query.  It is kept with the call, and thrown away when the
 * snapshot is another one.
 *
 *-------------------------------------------------------------------------
 */
#include "usage.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "check.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Organisations whose tail is read by itself; so many are cheaper than everybody's. */
#define OWN_TAILS 8

/* Events of everybody's tail that are kept in memory: some 150 MB. A longer one is read for each by itself. */
#define TAIL_MOST 1000000

/* ------------------------------------------------------------------------
 * Which snapshot it was
 * ------------------------------------------------------------------------
 */
typedef struct Moment
{
	SnapshotData snapshot;           /* its arrays are ours */
	SubTransactionId subtransaction; /* what one that was undone has seen is no more */
} Moment;

static bool
is_same(const TransactionId *a, const TransactionId *b, uint32 count)
{
	return count == 0 || memcmp(a, b, sizeof(TransactionId) * count) == 0;
}

static bool
is_moment(const Moment *moment, Snapshot now)
{
	const SnapshotData *then = &moment->snapshot;

	return then->xmin == now->xmin && then->xmax == now->xmax && then->curcid == now->curcid &&
		   then->xcnt == now->xcnt && then->subxcnt == now->subxcnt &&
		   moment->subtransaction == GetCurrentSubTransactionId() &&
		   is_same(then->xip, now->xip, now->xcnt) &&
		   is_same(then->subxip, now->subxip, (uint32) now->subxcnt);
}

static TransactionId *
copy_transactions(const TransactionId *transactions, uint32 count)
{
	TransactionId *copy = palloc(sizeof(TransactionId) * Max(count, 1));

	if (count > 0)
		memcpy(copy, transactions, sizeof(TransactionId) * count);
	return copy;
}

static Moment
moment_of(Snapshot snapshot)
{
	Moment moment = {*snapshot, GetCurrentSubTransactionId()};

	moment.snapshot.xip = copy_transactions(snapshot->xip, snapshot->xcnt);
	moment.snapshot.subxip = copy_transactions(snapshot->subxip, (uint32) snapshot->subxcnt);
	return moment;
}

/* What a call remembers of a snapshot; its memory goes with it. */
typedef struct Memo
{
	MemoryContext memory;
	Moment moment;
	int calls;
	bool tail_too_long;
	UsageTail *tail; /* of everybody; NULL: not read */
	bool has_mark;
	UsageMark mark;
} Memo;

static Memo *
memo_of(FmgrInfo *call)
{
	Snapshot snapshot = GetActiveSnapshot();
	Memo *memo = call->fn_extra;
	MemoryContext memory;
	MemoryContext old;

	if (memo != NULL && is_moment(&memo->moment, snapshot))
		return memo;
	if (memo != NULL)
	{
		call->fn_extra = NULL;
		MemoryContextDelete(memo->memory);
	}
	memory = AllocSetContextCreate(call->fn_mcxt, "billing usage reader", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(memory);
	memo = palloc0(sizeof(Memo));
	memo->memory = memory;
	memo->moment = moment_of(snapshot);
	MemoryContextSwitchTo(old);
	call->fn_extra = memo;
	return memo;
}

/* ------------------------------------------------------------------------
 * Readers
 * ------------------------------------------------------------------------
 */
/* As sees_all_organizations() and the policies. */
static bool
may_see(const char *organization_id)
{
	Oid all = get_relname_relid("all_organizations", get_namespace_oid("billing", false));
	const char *own;

	if (pg_class_aclcheck(all, GetUserId(), ACL_SELECT) == ACLCHECK_OK)
		return true;
	own = GetConfigOption("janua_billing.organization_id", true, false);
	return own != NULL && organization_id != NULL && strcmp(own, organization_id) == 0;
}

static void
read_everybody(Memo *memo)
{
	MemoryContext old = MemoryContextSwitchTo(memo->memory);

	memo->tail = usage_tail_of_everybody(TAIL_MOST);
	memo->tail_too_long = memo->tail == NULL;
	MemoryContextSwitchTo(old);
}

UsageReader
usage_reader_open(FunctionCallInfo fcinfo, const char *organization_id)
{
	UsageReader reader;
	Memo *memo;

	check_given("organization_id", organization_id != NULL);
	if (!may_see(organization_id))
		ereport(
			ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("usage of organization \"%s\" is not for role \"%s\"", organization_id,
					GetUserNameFromId(GetUserId(), false)),
			 errhint(
				 "A tenant reads what belongs to the organization that the setting janua_billing.organization_id names.")));
	reader.identity = identity_take_owner();
	db_open();
	reader.events = table_open(usage_tables()->events, AccessShareLock);
	memo = memo_of(fcinfo->flinfo);
	if (++memo->calls > OWN_TAILS && memo->tail == NULL && !memo->tail_too_long)
		read_everybody(memo);
	reader.tail = memo->tail != NULL ? memo->tail : usage_tail(organization_id);
	return reader;
}

void
usage_reader_close(UsageReader reader)
{
	table_close(reader.events, AccessShareLock);
	db_close();
	identity_give_back(reader.identity);
}

/* ------------------------------------------------------------------------
 * The mark, for the view usage_tail
 * ------------------------------------------------------------------------
 */
/* Citus sends the view to the nodes: there is nothing that is found by number there. */
static UsageMark
mark_of_view(void)
{
	return usage_is_on_a_node() ? (UsageMark){PG_INT64_MAX, 0, NULL} : usage_mark();
}

static const UsageMark *
mark_of_call(FmgrInfo *call)
{
	Memo *memo = memo_of(call);

	if (!memo->has_mark)
	{
		Identity identity = identity_take_owner();
		UsageMark mark;
		MemoryContext old;

		db_open();
		mark = mark_of_view();
		old = MemoryContextSwitchTo(memo->memory);
		memo->mark = mark;
		memo->mark.open = palloc(sizeof(int64) * Max(mark.open_count, 1));
		if (mark.open_count > 0)
			memcpy(memo->mark.open, mark.open, sizeof(int64) * mark.open_count);
		MemoryContextSwitchTo(old);
		db_close();
		identity_give_back(identity);
		memo->has_mark = true;
	}
	return &memo->mark;
}

SQL_FUNCTION(billing_usage_tail_start)
{
	const UsageMark *mark = mark_of_call(fcinfo->flinfo);
	int64 start = mark->until;

	for (int i = 0; i < mark->open_count; i++)
		start = Min(start, mark->open[i]);
	PG_RETURN_INT64(start);
}

SQL_FUNCTION(billing_in_usage_tail)
{
	PG_RETURN_BOOL(!mark_has(mark_of_call(fcinfo->flinfo), PG_GETARG_INT64(0)));
}
