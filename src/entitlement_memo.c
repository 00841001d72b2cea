/*-------------------------------------------------------------------------
 *
 * entitlement_memo.c
 *	  What a call site of has_feature() and its like remembers.
 *
 * A condition over a million rows asks about few organisations, each of them
 * many times.  A call site (one place in one plan) keeps the answers that it
 * gave, for as long as nothing can have changed them.  That is decided by what
 * the answers were read with, and not by where it lies: another snapshot may
 * come to the same address.
 *
 * Two snapshots of one transaction see the same rows when their xmin, xmax,
 * number of open transactions and command are the same.  The transactions below
 * xmax that a snapshot takes for open can only become fewer as time goes by,
 * for whoever begins later gets a number of xmax or above; so of two sets of
 * the same size and the same xmax neither lacks what the other has.  A
 * transaction of our own changes what it sees with its command counter, and by
 * taking back a savepoint: that, and the end of the transaction, is counted
 * here.  The end of the transaction also covers the time, which stands still
 * in a transaction; a test clock is a row.
 *
 * In PL/pgSQL a call site outlives the statement, and each evaluation has a
 * snapshot of its own: the loop sees each change.
 *
 *-------------------------------------------------------------------------
 */
#include "entitlements.h"

#include "access/xact.h"
#include "accounts.h"
#include "catalog/namespace.h"
#include "common/hashfn.h"
#include "utils/acl.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Longer ones are looked up each time. */
#define KEY_MAX 512

/* After so many organisations that were looked up one by one, all are loaded, from at most so many rows for each. */
#define LOAD_AFTER  64
#define LOAD_FACTOR 16

/* What the answers hang on. */
typedef struct Stamp
{
	TransactionId xmin;
	TransactionId xmax;
	uint32 open;
	int32 open_subtransactions;
	bool overflowed;
	bool in_recovery;
	bool sandbox_allowed;
	CommandId command;
	Oid role;
	uint64 ended;
} Stamp;

typedef struct MemoEntry
{
	MemoKey key;
	uint32 hash;
	char status;
	MemoAnswer answer;
} MemoEntry;

static inline uint32
key_hash(const MemoKey *key)
{
	uint32 hash = hash_bytes((const unsigned char *) key->organization_id,
							 (int) key->organization_id_length);

	return hash_combine(
		hash, hash_bytes((const unsigned char *) key->feature, (int) key->feature_length));
}

static inline bool
key_equal(const MemoKey *a, const MemoKey *b)
{
	return a->organization_id_length == b->organization_id_length &&
		   a->feature_length == b->feature_length &&
		   memcmp(a->organization_id, b->organization_id, a->organization_id_length) == 0 &&
		   memcmp(a->feature, b->feature, a->feature_length) == 0;
}

#define SH_PREFIX             answers
#define SH_ELEMENT_TYPE       MemoEntry
#define SH_KEY_TYPE           MemoKey
#define SH_KEY                key
#define SH_HASH_KEY(table, k) key_hash(&(k))
#define SH_EQUAL(table, a, b) key_equal(&(a), &(b))
#define SH_STORE_HASH
#define SH_GET_HASH(table, e) (e)->hash
#define SH_SCOPE              static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct Memo
{
	MemoryContext memory; /* of the answers */
	answers_hash *answers;
	Stamp stamp;
	bool sees_all;
	bool has_rest; /* of one feature all is known: what is not in the table is the rest */
	bool all_kept; /* what was put since the load began */
	MemoKey rest_key;
	MemoAnswer rest;
	int64 looked_up;  /* one by one, with this stamp */
	int64 load_after; /* so many, all are loaded */
};

/* Ends of transactions, and of savepoints that were taken back, in this session. */
static uint64 ended = 0;

static void
transaction_ended(XactEvent event, void *arg)
{
	ended++;
}

static void
subtransaction_ended(SubXactEvent event, SubTransactionId id, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		ended++;
}

static void
count_ends(void)
{
	static bool registered = false;

	if (registered)
		return;
	RegisterXactCallback(transaction_ended, NULL);
	RegisterSubXactCallback(subtransaction_ended, NULL);
	registered = true;
}

/* ------------------------------------------------------------------------
 * Whom the role may ask about
 * ------------------------------------------------------------------------
 */
/* The same question as that of the policies of row level security. */
static bool
role_sees_all(void)
{
	Oid mark = get_relname_relid("all_organizations", get_namespace_oid("billing", false));

	return pg_class_aclcheck(mark, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

void
memo_check_organization(const Memo *memo, const MemoKey *key)
{
	const char *own;

	if (memo != NULL ? memo->sees_all : role_sees_all())
		return;
	own = GetConfigOption("janua_billing.organization_id", true, false);
	if (own != NULL && strlen(own) == key->organization_id_length &&
		memcmp(own, key->organization_id, key->organization_id_length) == 0)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("role \"%s\" may not ask about this organization",
					GetUserNameFromId(GetUserId(), false)),
			 errdetail(
				 "It sees the organization that the setting janua_billing.organization_id names."),
			 errhint("Put organization_id = current_setting('janua_billing.organization_id', true) "
					 "before it, or grant the role level app or report.")));
}

/* ------------------------------------------------------------------------
 * The memo
 * ------------------------------------------------------------------------
 */
static bool
stamp_is(const Stamp *stamp, const SnapshotData *snapshot, Oid role)
{
	return stamp->ended == ended && stamp->command == snapshot->curcid &&
		   stamp->xmax == snapshot->xmax && stamp->xmin == snapshot->xmin &&
		   stamp->open == snapshot->xcnt && stamp->open_subtransactions == snapshot->subxcnt &&
		   stamp->overflowed == snapshot->suboverflowed &&
		   stamp->in_recovery == snapshot->takenDuringRecovery && stamp->role == role &&
		   stamp->sandbox_allowed == account_sandbox_allowed();
}

static void
memo_clear(Memo *memo)
{
	MemoryContextReset(memo->memory);
	memo->answers = answers_create(memo->memory, 64, NULL);
	memo->has_rest = false;
	memo->all_kept = false;
}

static void
memo_begin(Memo *memo, const SnapshotData *snapshot, Oid role)
{
	/* reset first: a failure on the way leaves an empty one */
	memo_clear(memo);
	memo->sees_all = role_sees_all();
	memo->looked_up = 0;
	memo->load_after = LOAD_AFTER;
	memo->stamp = (Stamp){.xmin = snapshot->xmin,
						  .xmax = snapshot->xmax,
						  .open = snapshot->xcnt,
						  .open_subtransactions = snapshot->subxcnt,
						  .overflowed = snapshot->suboverflowed,
						  .in_recovery = snapshot->takenDuringRecovery,
						  .sandbox_allowed = account_sandbox_allowed(),
						  .command = snapshot->curcid,
						  .role = role,
						  .ended = ended};
}

Memo *
memo_of_call(FunctionCallInfo fcinfo)
{
	Memo *memo;
	Snapshot snapshot;
	Oid role = GetUserId();

	if (fcinfo->flinfo == NULL || !ActiveSnapshotSet())
		return NULL;
	snapshot = GetActiveSnapshot();
	if (snapshot->snapshot_type != SNAPSHOT_MVCC)
		return NULL;
	memo = fcinfo->flinfo->fn_extra;
	if (memo != NULL && stamp_is(&memo->stamp, snapshot, role))
		return memo;
	if (memo == NULL)
	{
		count_ends();
		memo = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(Memo));
		memo->memory = AllocSetContextCreate(fcinfo->flinfo->fn_mcxt, "billing entitlements",
											 ALLOCSET_DEFAULT_SIZES);
		fcinfo->flinfo->fn_extra = memo;
	}
	memo_begin(memo, snapshot, role);
	return memo;
}

const MemoAnswer *
memo_find(Memo *memo, const MemoKey *key)
{
	MemoEntry *entry = answers_lookup(memo->answers, *key);

	if (entry != NULL)
		return &entry->answer;
	if (memo->has_rest && memo->rest_key.feature_length == key->feature_length &&
		memcmp(memo->rest_key.feature, key->feature, key->feature_length) == 0)
		return &memo->rest;
	return NULL;
}

static const char *
keep_bytes(Memo *memo, const void *bytes, Size length)
{
	char *kept = MemoryContextAlloc(memo->memory, Max(length, 1));

	memcpy(kept, bytes, length);
	return kept;
}

static MemoAnswer
keep_answer(Memo *memo, MemoAnswer answer, Size length)
{
	if (!answer.isnull && length > 0)
		answer.value = PointerGetDatum(keep_bytes(memo, DatumGetPointer(answer.value), length));
	return answer;
}

/* At most work_mem: a query over more organisations than that begins anew. */
void
memo_put(Memo *memo, const MemoKey *key, MemoAnswer answer, Size length)
{
	MemoKey kept = *key;
	MemoEntry *entry;
	bool found;

	if (key->organization_id_length > KEY_MAX || length > KEY_MAX)
	{
		memo->all_kept = false;
		return;
	}
	if (MemoryContextMemAllocated(memo->memory, true) > (Size) work_mem * 1024)
		memo_clear(memo);
	/* in the table first: what is loaded meets what was looked up */
	entry = answers_lookup(memo->answers, *key);
	if (entry != NULL)
		return;
	kept.organization_id = keep_bytes(memo, key->organization_id, key->organization_id_length);
	kept.feature = keep_bytes(memo, key->feature, key->feature_length);
	answer = keep_answer(memo, answer, length);
	entry = answers_insert(memo->answers, kept, &found);
	entry->answer = answer;
}

void
memo_put_rest(Memo *memo, const MemoKey *key, MemoAnswer answer, Size length)
{
	if (!memo->all_kept)
		return;
	memo->rest_key = *key;
	memo->rest_key.feature = keep_bytes(memo, key->feature, key->feature_length);
	memo->rest = keep_answer(memo, answer, length);
	memo->has_rest = true;
}

/* Of a row comes an answer of some 200 bytes; a quarter of the memory, so that none of it is cleared again. */
int64
memo_rows_to_load(Memo *memo)
{
	int64 most;

	if (++memo->looked_up < memo->load_after)
		return 0;
	most = Min(memo->looked_up * LOAD_FACTOR, (int64) work_mem * 1024 / 4 / 200);
	memo->load_after = memo->looked_up * 4;
	memo->all_kept = true;
	return most;
}
