/*-------------------------------------------------------------------------
 *
 * links.h
 *	  From one object to another that may be told of later.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_LINKS_H
#define JANUA_LINKS_H

#include "refs.h"

/*
 * Our object behind a provider's id that holder (of holder_type, with this id)
 * was told to belong to.  NULL while it is not known here: then the link is
 * noted and made when it appears.  provider_id NULL: not told, nothing changes;
 * "": told that there is none.  The kinds of links stand in links.c.
 */
extern pg_uuid_t *link_find(const char *object_type, const char *provider_id,
							const char *holder_type, const pg_uuid_t *holder_id, const News *news);

/* The object is known now: makes the links that wait for it. */
extern void links_make(const char *object_type, const char *provider_id, const pg_uuid_t *object_id,
					   const News *news);

#endif /* JANUA_LINKS_H */
