/*-------------------------------------------------------------------------
 *
 * housekeeping.h
 *	  Announcements and retention.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_HOUSEKEEPING_H
#define JANUA_HOUSEKEEPING_H

/* Announces events by NOTIFY. Returns how many. */
extern int events_announce(void);

/* Removes what is past its retention; does something at most every few minutes. */
extern void housekeeping_pass(void);

#endif /* JANUA_HOUSEKEEPING_H */
