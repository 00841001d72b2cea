/*-------------------------------------------------------------------------
 *
 * entitlements.h
 *	  What an organisation's plans allow, for the other subjects.
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
	char *value;   /* the best of the organisation's plans; NULL: in none */
	Numeric limit; /* of a limit: Infinity is unlimited, 0 is not in the plan */
} Entitlement;

/*
 * What the organisation has of a feature, on the active snapshot; false when
 * there is no such feature.
 */
extern bool entitlement_find(const char *organization_id, const char *feature, Entitlement *found);

/* "12.5", "Infinity": the text of a limit or quantity that is known to be a number. */
extern Numeric numeric_of_text(const char *text);

#endif /* JANUA_ENTITLEMENTS_H */
