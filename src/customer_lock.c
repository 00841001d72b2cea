/*-------------------------------------------------------------------------
 *
 * customer_lock.c
 *	  The lock of a customer's row, under which all that is billed stands still.
 *
 * Whoever holds it may believe what he reads, in READ COMMITTED: each statement
 * sees what was committed before it.  A transaction of REPEATABLE READ or
 * SERIALIZABLE reads what stood when it began, and the lock tells it nothing,
 * as most of those who held it have left the customer's row itself as it was:
 * what was credited meanwhile would be given back once more, what was paid
 * would be lost.  So it is refused where a fresh snapshot sees anything else of
 * the customer than its own does, and goes through where nobody came between.
 *
 * Everybody who locks a customer for a session or for news comes through here:
 * outbox_lock_customer(), news_lock_customer(), and by customer_locked() the
 * queries that read the row while they lock it.
 *
 *-------------------------------------------------------------------------
 */
#include "subjects.h"

#include "access/transam.h"
#include "access/xact.h"
#include "utils/snapmgr.h"

QUERY(wait_for_customer, "SELECT FROM billing.customers WHERE id = $1 FOR NO KEY UPDATE", UUIDOID);
QUERY(take_customer, "SELECT FROM billing.customers WHERE id = $1 FOR NO KEY UPDATE NOWAIT",
	  UUIDOID);

bool
customer_lock(const pg_uuid_t *id)
{
	if (RUN(wait_for_customer, arg_uuid(id)) == 0)
		return false;
	customer_locked(id);
	return true;
}

bool
customer_lock_nowait(const pg_uuid_t *id)
{
	if (RUN(take_customer, arg_uuid(id)) == 0)
		return false;
	customer_locked(id);
	return true;
}

/*
 * What billing leaves behind, whoever does it.  A version of a row bears the
 * transaction that wrote it, so that row and xmin together tell the versions
 * that one sees, and own changes are the same to both snapshots.
 *
 *	subscriptions, scheduled_changes: every run of the engine writes the
 *		subscriptions it changes (changes, pauses, renewals), and what is planned.
 *	invoices: drafts, numbers, payments, mark_invoice_paid(), void_invoice().
 *	payment_intents, refunds, disputes: what is paid and goes back, by calls,
 *		answers and webhooks.
 *	credit_notes, customer_balances, credit_grants: create_credit_note(),
 *		adjust_balance(), grant_credit() and what uses them up.  A grant that is used
 *		up drops out of the index, and is missed in the sum.
 *	applied_coupons: what the next invoice is lowered by.
 *	outbox: what waits behind what.  Being sent changes nothing of that.
 *
 * What else is written (lines, items, entries, the ledger, events) goes with one
 * of these.  Each is found by an index that is there anyway; events and the audit
 * log have none by customer, and one for this alone would be paid by everybody.
 */
#define VERSIONS(table, condition)                                            \
	" UNION ALL SELECT t.id::text || ':' || t.xmin::text FROM billing." table \
	" AS t WHERE " condition
#define OF_CUSTOMER "t.customer_id = $1"
#define OF_ORGANIZATION \
	"t.organization_id = (SELECT c.organization_id FROM billing.customers AS c WHERE c.id = $1)"
/* asked for one subscription after the other: as a join it might be read in full */
#define PLANNED                                                                                 \
	" UNION ALL SELECT p.version FROM billing.subscriptions AS s CROSS JOIN LATERAL "           \
	"(SELECT t.id::text || ':' || t.xmin::text AS version FROM billing.scheduled_changes AS t " \
	"WHERE t.subscription_id = s.id AND t.state = 'pending' OFFSET 0) AS p WHERE s.customer_id = $1"
#define REQUESTS(condition)                                                                  \
	" UNION ALL SELECT t.id::text || CASE WHEN t.state IN ('waiting', 'dead') THEN t.state " \
	"ELSE '' END FROM billing.outbox AS t WHERE t.ordering_key = $1 AND " condition

/* clang-format off */
QUERY(seen,
	"SELECT count(*), bit_xor(hashtextextended(v.version, 0)) FROM ("
	"SELECT t.currency || ':' || t.xmin::text FROM billing.customer_balances AS t WHERE " OF_CUSTOMER
	VERSIONS("subscriptions", OF_CUSTOMER)
	PLANNED
	VERSIONS("invoices", OF_CUSTOMER)
	VERSIONS("payment_intents", OF_CUSTOMER)
	VERSIONS("refunds", OF_ORGANIZATION)
	VERSIONS("disputes", OF_ORGANIZATION)
	VERSIONS("credit_notes", OF_CUSTOMER)
	VERSIONS("credit_grants", OF_CUSTOMER " AND t.remaining > 0")
	VERSIONS("applied_coupons", OF_CUSTOMER)
	REQUESTS("t.state = 'waiting'")
	REQUESTS("t.state <> 'waiting'")
	") AS v (version)",
	UUIDOID);
/* clang-format on */

typedef struct Seen
{
	int64 count;
	int64 versions;
} Seen;

static Seen
seen_by(Snapshot snapshot, const pg_uuid_t *customer_id)
{
	query_read_at(&seen, (const Arg[]){arg_uuid(customer_id)}, snapshot);
	return (Seen){.count = row_int(0, 1), .versions = row_int(0, 2)};
}

QUERY(organization_of, "SELECT organization_id FROM billing.customers WHERE id = $1", UUIDOID);

static void
check_snapshot(const pg_uuid_t *id)
{
	Seen now = seen_by(GetLatestSnapshot(), id);
	Seen ours = seen_by(GetTransactionSnapshot(), id);

	if (now.count == ours.count && now.versions == ours.versions)
		return;
	RUN(organization_of, arg_uuid(id));
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access to the customer of organization \"%s\" due to "
					"concurrent billing",
					row_text(0, 1)),
			 errdetail("What customer %s has, owes or has paid was changed after this transaction "
					   "took its snapshot.",
					   uuid_text(id)),
			 errhint("Run the transaction again; READ COMMITTED needs no retry.")));
}

/*
 * A call locks its customer many times, and once it does nobody else changes
 * what is his.  But a savepoint that is rolled back gives the lock away: what
 * was looked at counts for the same subtransaction alone.
 */
void
customer_locked(const pg_uuid_t *id)
{
	static FullTransactionId looked_in;
	static pg_uuid_t looked_at;
	FullTransactionId present;

	if (!IsolationUsesXactSnapshot())
		return;
	present = GetCurrentFullTransactionId();
	if (FullTransactionIdEquals(present, looked_in) && uuid_equal(&looked_at, id))
		return;
	check_snapshot(id);
	looked_in = present;
	looked_at = *id;
}
