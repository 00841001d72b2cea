/*-------------------------------------------------------------------------
 *
 * organizations.h
 *	  The application's own table of organisations and what billing reads of it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_ORGANIZATIONS_H
#define JANUA_ORGANIZATIONS_H

#include "subjects.h"

/* What a column of the table can be for a customer: the members of update_customer(). */
typedef enum Member
{
	MEMBER_EMAIL,
	MEMBER_NAME,
	MEMBER_COUNTRY,
	MEMBER_PHONE,
	MEMBER_LOCALE,
	MEMBER_CURRENCY,
	MEMBER_COUNT
} Member;

/* The names of a member in update_customer() and among the options of an attachment. */
typedef struct MemberName
{
	const char *member;
	const char *option;
} MemberName;

extern const MemberName organization_members[MEMBER_COUNT];

/* How a table is attached; what was not given is NULL. */
typedef struct Attachment
{
	const char *id_column;
	const char *columns[MEMBER_COUNT];
	const char *default_plan;
	const char *on_delete;
	const char *provider;
	const char *account;
} Attachment;

/* A row of the table, as far as it concerns billing. */
typedef struct Organization
{
	const char *id;
	const char *values[MEMBER_COUNT];
} Organization;

/* Makes the customer if there is none; true when it is new. */
extern bool organization_create(const Attachment *attachment, const Organization *organization,
								bool in_trigger);

#endif /* JANUA_ORGANIZATIONS_H */
