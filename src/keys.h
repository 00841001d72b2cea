/*-------------------------------------------------------------------------
 *
 * keys.h
 *	  Encryption of single values under the key file.
 *
 * A sealed value is: format byte, key id (4 bytes), nonce (12), ciphertext,
 * tag (16).  Its associated data is "table.column:uuid", so that a value
 * cannot be moved to another row or column.  The key file lies outside the
 * data directory and is read by the server; it may hold several keys, of
 * which the last one seals and all open.
 *
 *-------------------------------------------------------------------------
 */
#ifndef JANUA_KEYS_H
#define JANUA_KEYS_H

#include "db.h"

/* Seals; NULL stays NULL. ERROR JB012 when there is no usable key file. */
extern bytea *seal(const char *column, const pg_uuid_t *id, const void *plain, size_t length);
extern bytea *seal_text(const char *column, const pg_uuid_t *id, const char *plain);

/* Opens; NULL stays NULL. ERROR JB012 when no key opens it. The result is NUL-terminated. */
extern char *unseal(const char *column, const pg_uuid_t *id, const bytea *sealed, size_t *length);
extern char *unseal_text(const char *column, const pg_uuid_t *id, const bytea *sealed);

/* Does it open?  For checks that must not raise. */
extern bool unseals(const char *column, const pg_uuid_t *id, const bytea *sealed);

/* Do both open, and to the same?  False, never an ERROR, when one does not. */
extern bool sealed_alike(const char *column, const pg_uuid_t *id, const bytea *a, const bytea *b);

/* Keyed hash for look-ups and comparisons: 32 bytes, different per purpose. */
extern bytea *keyed_hash(const char *purpose, const char *text);

/* Of an e-mail address in any case of letters, as in customers.email_hash; NULL stays NULL. */
extern bytea *email_hash(const char *email);

/* A secret derived from the key file, in hex: for the sandbox's webhooks. */
extern char *derived_secret(const char *purpose);

/* Of a key in its file, before the key. */
#define KEY_ID_SIZE 4

/* Where the file is; false when there is no default: the server's user has no home. */
extern bool key_file_path(char path[MAXPGPATH]);

/* Does a base backup leave the path alone?  Links are followed; false also when that fails. */
extern bool outside_data_directory(const char *path);

/* Is there a key file that can be used? Never raises. */
extern bool keys_available(void);

/*
 * Another number when the key file is another one than at the last call, or
 * cannot be used: who keeps what it opened forgets it then.  Never raises; looks
 * at the file once a second.
 */
extern uint64 keys_version(TimestampTz now);

/* The GUC key_file. Called once from _PG_init. */
extern void keys_init(void);

#endif /* JANUA_KEYS_H */
