/*-------------------------------------------------------------------------
 *
 * audit.h
 *	  Who or what changed which object: the rows of billing.audit_log.
 *
 * The triggers of sql/96_audit_triggers.sql write them.  What a trigger cannot
 * know is why: whoever carries something out on behalf of a webhook, of the
 * answer to a request or of a duty says so here.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_AUDIT_H
#define JANUA_AUDIT_H

#include "db.h"

typedef enum AuditCause
{
	AUDIT_CALL,    /* the SQL user; this is so when nothing else is said */
	AUDIT_WEBHOOK, /* the provider's event: its id */
	AUDIT_REQUEST, /* a request of the outbox, or the answer to it: its uuid */
	AUDIT_WORKER   /* a duty of the worker: the uuid of what was due, or NULL */
} AuditCause;

/*
 * Runs work(context); what it changes has this cause.  Causes nest, the inner
 * one counts; an ERROR puts the outer one back.  "id" is not copied.
 */
extern void audit_caused(AuditCause cause, const char *id, void (*work)(void *context),
						 void *context);

/* Removes up to so many rows that are older than the setting audit_retention. */
extern void audit_prune(int64 batch);

#endif /* JANUA_AUDIT_H */
