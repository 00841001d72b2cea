/*-------------------------------------------------------------------------
 *
 * entitlements.h
 *	  What an organisation may use, for the other subjects.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_ENTITLEMENTS_H
#define JANUA_ENTITLEMENTS_H

#include "db.h"
#include "utils/numeric.h"

typedef enum FeatureKind
{
	FEATURE_BOOLEAN,
	FEATURE_LIMIT,
	FEATURE_TEXT
} FeatureKind;

typedef struct Entitlement
{
	FeatureKind kind;
	char *value;   /* as in plan_features; NULL: it does not have it */
	Numeric limit; /* of a limit: Infinity is unlimited, 0 is none */
} Entitlement;

/*
 * What the organisation has of a feature, on the active snapshot; false when
 * there is no such feature.
 */
extern bool entitlement_find(const char *organization_id, const char *feature, Entitlement *found);

/*
 * The same for every organisation of which something is to say, and at last
 * (organization_id NULL) for all others.  False, and nothing is visited, when
 * more than "most" rows say something.
 */
typedef void (*VisitEntitlement)(const char *organization_id, const Entitlement *found,
								 void *context);
extern bool entitlements_of_all(const char *feature, int64 most, VisitEntitlement visit,
								void *context);

/* "12.5", "Infinity": the text of a limit or quantity that is known to be a number. */
extern Numeric numeric_of_text(const char *text);

/* JB005: there is no such feature. */
extern _Noreturn void unknown_feature(const char *feature);

/* ------------------------------------------------------------------------
 * entitlement_memo.c: what a call site remembers.
 * ------------------------------------------------------------------------
 */
typedef struct Memo Memo;

/* What was asked, the bytes as they were passed. */
typedef struct MemoKey
{
	const char *organization_id;
	const char *feature;
	uint32 organization_id_length;
	uint32 feature_length;
} MemoKey;

typedef struct MemoAnswer
{
	Datum value;
	bool isnull;
} MemoAnswer;

/*
 * The memo of the call site, without anything that another snapshot, another
 * transaction or another role has said. NULL where nothing can be remembered.
 */
extern Memo *memo_of_call(FunctionCallInfo fcinfo);

/* 42501 unless the current role may ask about the organisation. */
extern void memo_check_organization(const Memo *memo, const MemoKey *key);

/* NULL when it is not known. */
extern const MemoAnswer *memo_find(Memo *memo, const MemoKey *key);

/* length: of a value by reference, 0 for one by value. */
extern void memo_put(Memo *memo, const MemoKey *key, MemoAnswer answer, Size length);

/* The same for all organisations that were not put; only the feature of the key counts. */
extern void memo_put_rest(Memo *memo, const MemoKey *key, MemoAnswer answer, Size length);

/* It is time to load the answers of all: from at most so many rows. 0: not now. */
extern int64 memo_rows_to_load(Memo *memo);

#endif /* JANUA_ENTITLEMENTS_H */
