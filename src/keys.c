/*-------------------------------------------------------------------------
 *
 * keys.c
 *	  The key file, and sealing and opening single values under it.
 *
 * Called by every subject that stores a secret or a person's data; calls
 * crypto.c.  The file is text that an administrator can read, copy and extend:
 *
 *	  # comment
 *	  <id: 8 hex digits> <key: base64 of 32 random bytes>
 *
 * The last key seals, every key opens.  What has to stay the same for ever
 * (hashes for look-ups, derived secrets) comes from the first key.  So a key
 * is rotated by adding a line at the end, and the first line always stays.
 *
 * The file lies outside the data directory, so that a base backup alone opens
 * nothing.  What is derived for one purpose says nothing about another
 * (crypto_derive_key).
 *
 *-------------------------------------------------------------------------
 */
#include "keys.h"

#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "catalog/pg_collation.h"
#include "crypto.h"
#include "errors.h"
#include "storage/fd.h"
#include "utils/formatting.h"
#include "utils/guc.h"

#define KEYS_MAX 64
#define FILE_MAX (16 * 1024)

#define KEY_ID_DIGITS (2 * KEY_ID_SIZE)
#define KEY_DIGITS    ((int) CRYPTO_BASE64_SIZE(CRYPTO_KEY_SIZE) - 1)

/* A sealed value begins with the format and the id of its key. */
#define SEALED_FORMAT 1
#define SEALED_HEADER (1 + KEY_ID_SIZE)

/* A changed file is noticed after this time; a look costs several system calls. */
#define RECHECK_AFTER (1 * USECS_PER_SEC)

/* "table.column", and the label of a derived key. */
#define COLUMN_MAX  (2 * NAMEDATALEN)
#define UUID_DIGITS 36
#define LABEL_SIZE  160

typedef struct Key
{
	uint8 id[KEY_ID_SIZE];
	uint8 master[CRYPTO_KEY_SIZE];
	uint8 sealing[CRYPTO_KEY_SIZE];
} Key;

/* What a file was when it was read; another value means: read it again. */
typedef struct FileMark
{
	dev_t device;
	ino_t inode;
	off_t size;
	struct timespec changed; /* of the inode: also when mode or owner changed */
} FileMark;

typedef enum RingState
{
	RING_GOOD,
	RING_MISSING, /* there is no file */
	RING_BAD      /* there is one that cannot be used */
} RingState;

/*
 * The keys of this backend.  Static memory instead of a memory context: they
 * live as long as the process, and what they were is wiped when they change.
 */
static struct
{
	int count; /* 0: nothing was read yet */
	uint64 version;
	Key keys[KEYS_MAX];
	char path[MAXPGPATH];
	FileMark mark;
	TimestampTz checked_at;
	const char *trouble; /* why the state is RING_BAD */
} ring;

static char *key_file = NULL;

/* ------------------------------------------------------------------------
 * Where the file is
 * ------------------------------------------------------------------------
 */

/* False when there is no default: the server's user has no home. */
bool
key_file_path(char path[MAXPGPATH])
{
	struct passwd *user;

	if (key_file != NULL && *key_file != '\0')
	{
		strlcpy(path, key_file, MAXPGPATH);
		canonicalize_path(path);
		return true;
	}
	user = getpwuid(geteuid());
	if (user == NULL || user->pw_dir == NULL || *user->pw_dir != '/')
		return false;
	snprintf(path, MAXPGPATH, "%s/.janua_billing-" UINT64_FORMAT ".key", user->pw_dir,
			 GetSystemIdentifier());
	canonicalize_path(path);
	return true;
}

/* Links are followed, for the file and for the data directory; false also when that fails. */
bool
outside_data_directory(const char *path)
{
	char resolved[PATH_MAX];
	char data[PATH_MAX];

	return realpath(path, resolved) != NULL && realpath(DataDir, data) != NULL &&
		   !path_is_prefix_of_path(data, resolved);
}

/* As for the server's TLS key: its own file, or one of root's that its group may read. */
static bool
file_is_private(const struct stat *status)
{
	if (status->st_uid == geteuid())
		return (status->st_mode & (S_IRWXG | S_IRWXO)) == 0;
	return status->st_uid == 0 && (status->st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) == 0;
}

/* ------------------------------------------------------------------------
 * Reading the file
 * ------------------------------------------------------------------------
 */
static void
ring_clear(void)
{
	crypto_wipe(ring.keys, sizeof(ring.keys));
	ring.count = 0;
	ring.version++;
}

static bool
hex_decode_id(const char *text, uint8 id[KEY_ID_SIZE])
{
	for (int i = 0; i < KEY_ID_DIGITS; i++)
	{
		const char *digits = "0123456789abcdef";
		const char *digit = text[i] == '\0' ? NULL : strchr(digits, text[i]);

		if (digit == NULL)
			return false;
		id[i / 2] = (uint8) ((id[i / 2] << 4) | (digit - digits));
	}
	return true;
}

static const Key *
ring_find(const uint8 id[KEY_ID_SIZE])
{
	for (int i = 0; i < ring.count; i++)
	{
		if (memcmp(ring.keys[i].id, id, KEY_ID_SIZE) == 0)
			return &ring.keys[i];
	}
	return NULL;
}

/* Adds the key of a line to the ring; returns why it cannot, else NULL. */
static const char *
parse_line(const char *line, size_t length)
{
	Key *key = &ring.keys[ring.count];
	uint8 decoded[CRYPTO_BASE64_DECODED_SIZE(KEY_DIGITS)];
	size_t decoded_length;
	bool done;

	if (ring.count == KEYS_MAX)
		return "it has too many keys";
	if (length != KEY_ID_DIGITS + 1 + KEY_DIGITS || line[KEY_ID_DIGITS] != ' ' ||
		!hex_decode_id(line, key->id))
		return "a line is not an id of 8 hex digits, a blank and 32 bytes in base64";
	if (ring_find(key->id) != NULL)
		return "two of its keys have the same id";

	done = crypto_base64_decode(line + KEY_ID_DIGITS + 1, KEY_DIGITS, decoded, &decoded_length) &&
		   decoded_length == CRYPTO_KEY_SIZE;
	if (done)
		memcpy(key->master, decoded, CRYPTO_KEY_SIZE);
	crypto_wipe(decoded, sizeof(decoded));
	if (!done || !crypto_derive_key(key->master, "seal", key->sealing))
		return "a key is not 32 bytes in base64";
	ring.count++;
	return NULL;
}

static const char *
parse_file(const char *text)
{
	const char *trouble = NULL;

	while (*text != '\0' && trouble == NULL)
	{
		size_t line = strcspn(text, "\n");
		size_t length = line;

		if (length > 0 && text[length - 1] == '\r')
			length--;
		if (length > 0 && *text != '#')
			trouble = parse_line(text, length);
		text += line + (text[line] == '\n' ? 1 : 0);
	}
	if (trouble == NULL && ring.count == 0)
		trouble = "it holds no key";
	return trouble;
}

/* Reads it whole; false also when it is too large to be a key file. */
static bool
read_all(int fd, char *buffer, size_t size)
{
	size_t filled = 0;

	while (filled < size)
	{
		ssize_t got = read(fd, buffer + filled, size - filled);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return false;
		if (got == 0)
		{
			buffer[filled] = '\0';
			return true;
		}
		filled += (size_t) got;
	}
	return false;
}

static const char *
load_keys(int fd, const char *path, const struct stat *status)
{
	char text[FILE_MAX];
	const char *trouble;

	if (!S_ISREG(status->st_mode))
		return "it is not a regular file";
	if (!file_is_private(status))
		return "others than the server's user may read or own it";
	if (!outside_data_directory(path))
		return "it lies in the data directory";
	trouble = read_all(fd, text, sizeof(text)) ? parse_file(text)
											   : "it cannot be read or is too large";
	crypto_wipe(text, sizeof(text));
	return trouble;
}

static FileMark
mark_of(const struct stat *status)
{
	FileMark mark;

	memset(&mark, 0, sizeof(mark));
	mark.device = status->st_dev;
	mark.inode = status->st_ino;
	mark.size = status->st_size;
	mark.changed = status->st_ctim;
	return mark;
}

static RingState
ring_trouble(const char *trouble)
{
	ring_clear();
	ring.trouble = trouble;
	return RING_BAD;
}

/*
 * Looks at the file and reads it when it is not the one in the ring.  Never
 * raises.  A file that is gone or broken takes the keys with it: who takes it
 * away means that.
 */
static RingState
ring_load(void)
{
	char path[MAXPGPATH];
	struct stat status;
	FileMark mark;
	int fd;
	const char *trouble;

	if (!key_file_path(path))
		return ring_trouble(
			"the server's user has no home directory and janua_billing.key_file is not set");

	/* O_NONBLOCK: a pipe of that name must not stop the server. */
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
	{
		int reason = errno;

		ring_trouble("the server cannot open it");
		return reason == ENOENT ? RING_MISSING : RING_BAD;
	}
	if (fstat(fd, &status) != 0)
	{
		close(fd);
		return ring_trouble("the server cannot open it");
	}

	mark = mark_of(&status);
	if (ring.count > 0 && strcmp(path, ring.path) == 0 &&
		memcmp(&mark, &ring.mark, sizeof(mark)) == 0)
	{
		close(fd);
		ring.checked_at = GetCurrentTimestamp();
		return RING_GOOD;
	}

	ring_clear();
	trouble = load_keys(fd, path, &status);
	close(fd);
	if (trouble != NULL)
		return ring_trouble(trouble);
	strlcpy(ring.path, path, MAXPGPATH);
	ring.mark = mark;
	ring.checked_at = GetCurrentTimestamp();
	return RING_GOOD;
}

static RingState
ring_ready_at(TimestampTz now)
{
	TimestampTz age = now - ring.checked_at;

	if (ring.count == 0)
		return ring_load();
	if (age >= 0 && age < RECHECK_AFTER)
		return RING_GOOD;
	return ring_load();
}

static RingState
ring_ready(void)
{
	return ring_ready_at(GetCurrentTimestamp());
}

/* Only the server's log names the file: where it lies is a superuser's business. */
static void
ring_require(void)
{
	RingState state = ring_ready();
	char path[MAXPGPATH] = "";

	if (state == RING_GOOD)
		return;
	(void) key_file_path(path);
	if (state == RING_MISSING)
		ereport(ERROR, (errcode(ERRCODE_JB_KEY), errmsg("there is no key file"),
						errdetail("Secrets and personal data are stored encrypted only."),
						errdetail_log("No file \"%s\".", path),
						errhint("As a superuser: SELECT billing.create_key_file();")));
	ereport(
		ERROR,
		(errcode(ERRCODE_JB_KEY), errmsg("the key file cannot be used"),
		 errdetail("Reason: %s.", ring.trouble),
		 errdetail_log("Reason: %s. File: \"%s\".", ring.trouble, path),
		 errhint(
			 "It is a regular file outside the data directory, owned by the server's user, mode 0600; "
			 "janua_billing.key_file names it.")));
}

uint64
keys_version(TimestampTz now)
{
	(void) ring_ready_at(now);
	return ring.version;
}

bool
keys_available(void)
{
	return ring_ready() == RING_GOOD;
}

/* ------------------------------------------------------------------------
 * Sealing and opening
 * ------------------------------------------------------------------------
 */

/* "table.column:uuid"; written by hand because it is done for every value. */
static size_t
associated_data(const char *column, const pg_uuid_t *id, char out[COLUMN_MAX + UUID_DIGITS + 2])
{
	static const char digits[] = "0123456789abcdef";
	size_t length = strlen(column);

	if (length > COLUMN_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("no column has a name of %zu bytes", length)));
	memcpy(out, column, length);
	out[length++] = ':';
	for (int i = 0; i < UUID_LEN; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			out[length++] = '-';
		out[length++] = digits[id->data[i] >> 4];
		out[length++] = digits[id->data[i] & 15];
	}
	return length;
}

bytea *
seal(const char *column, const pg_uuid_t *id, const void *plain, size_t length)
{
	char aad[COLUMN_MAX + UUID_DIGITS + 2];
	size_t aad_length;
	size_t size = VARHDRSZ + SEALED_HEADER + CRYPTO_SEAL_OVERHEAD + length;
	const Key *key;
	bytea *sealed;
	uint8 *out;

	if (plain == NULL)
		return NULL;
	ring_require();
	key = &ring.keys[ring.count - 1];
	aad_length = associated_data(column, id, aad);

	sealed = palloc(size);
	SET_VARSIZE(sealed, size);
	out = (uint8 *) VARDATA(sealed);
	out[0] = SEALED_FORMAT;
	memcpy(out + 1, key->id, KEY_ID_SIZE);
	if (!crypto_seal(key->sealing, aad, aad_length, plain, length, out + SEALED_HEADER))
		ereport(ERROR, (errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
						errmsg("could not encrypt a value of %s", column)));
	return sealed;
}

bytea *
seal_text(const char *column, const pg_uuid_t *id, const char *plain)
{
	return plain == NULL ? NULL : seal(column, id, plain, strlen(plain));
}

/* The key may have been added to the file a moment ago. */
static const Key *
key_for(const uint8 *sealed)
{
	const Key *key = ring_find(sealed + 1);

	if (key == NULL && ring_load() == RING_GOOD)
		key = ring_find(sealed + 1);
	return key;
}

/* NULL when it does not open, with the reason. */
static char *
try_unseal(const char *column, const pg_uuid_t *id, const bytea *sealed, size_t *length,
		   const char **reason)
{
	char aad[COLUMN_MAX + UUID_DIGITS + 2];
	size_t aad_length = associated_data(column, id, aad);
	const uint8 *in = (const uint8 *) VARDATA_ANY(sealed);
	size_t size = VARSIZE_ANY_EXHDR(sealed);
	const Key *key;
	char *plain;

	if (size < SEALED_HEADER + CRYPTO_SEAL_OVERHEAD || in[0] != SEALED_FORMAT)
	{
		*reason = "It is not an encrypted value.";
		return NULL;
	}
	key = key_for(in);
	if (key == NULL)
	{
		*reason = "The key file does not hold the key that it was encrypted under.";
		return NULL;
	}

	*length = size - SEALED_HEADER - CRYPTO_SEAL_OVERHEAD;
	plain = palloc(*length + 1);
	if (!crypto_open(key->sealing, aad, aad_length, in + SEALED_HEADER, size - SEALED_HEADER,
					 (uint8 *) plain))
	{
		*reason = "It was changed, or belongs to another row or column.";
		return NULL;
	}
	plain[*length] = '\0';
	return plain;
}

char *
unseal(const char *column, const pg_uuid_t *id, const bytea *sealed, size_t *length)
{
	const char *reason = NULL;
	char *plain;

	if (sealed == NULL)
		return NULL;
	ring_require();
	plain = try_unseal(column, id, sealed, length, &reason);
	if (plain == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_JB_KEY), errmsg("a value of %s does not open", column),
				 errdetail("%s", reason),
				 errhint("Put the key file back that was in use when the value was written.")));
	return plain;
}

char *
unseal_text(const char *column, const pg_uuid_t *id, const bytea *sealed)
{
	size_t length;

	return unseal(column, id, sealed, &length);
}

bool
unseals(const char *column, const pg_uuid_t *id, const bytea *sealed)
{
	const char *reason;
	size_t length = 0;
	char *plain;

	if (!keys_available())
		return false;
	plain = try_unseal(column, id, sealed, &length, &reason);
	if (plain == NULL)
		return false;
	crypto_wipe(plain, length);
	pfree(plain);
	return true;
}

bool
sealed_alike(const char *column, const pg_uuid_t *id, const bytea *a, const bytea *b)
{
	const char *reason;
	size_t length = 0;
	char *plain[2] = {NULL, NULL};
	bool alike;

	/* sealing adds the same to everything: what differs in length is not the same */
	if (VARSIZE_ANY_EXHDR(a) != VARSIZE_ANY_EXHDR(b) || !keys_available())
		return false;
	plain[0] = try_unseal(column, id, a, &length, &reason);
	plain[1] = try_unseal(column, id, b, &length, &reason);
	alike = plain[0] != NULL && plain[1] != NULL && memcmp(plain[0], plain[1], length) == 0;
	for (int i = 0; i < 2; i++)
	{
		if (plain[i] != NULL)
			crypto_wipe(plain[i], length);
	}
	return alike;
}

/* ------------------------------------------------------------------------
 * What is derived from the first key
 * ------------------------------------------------------------------------
 */
static void
derive(const char *kind, const char *purpose, uint8 out[CRYPTO_KEY_SIZE])
{
	char label[LABEL_SIZE];

	ring_require();
	if (snprintf(label, sizeof(label), "%s:%s", kind, purpose) >= (int) sizeof(label))
		elog(ERROR, "purpose of a key is too long");
	if (!crypto_derive_key(ring.keys[0].master, label, out))
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), errmsg("could not derive a key")));
}

bytea *
keyed_hash(const char *purpose, const char *text)
{
	uint8 key[CRYPTO_KEY_SIZE];
	CryptoPart part = {text, strlen(text)};
	bytea *hash = palloc(VARHDRSZ + CRYPTO_SHA256_SIZE);
	bool done;

	derive("hash", purpose, key);
	SET_VARSIZE(hash, VARHDRSZ + CRYPTO_SHA256_SIZE);
	done = crypto_hmac_sha256(key, sizeof(key), &part, 1, (uint8 *) VARDATA(hash));
	crypto_wipe(key, sizeof(key));
	if (!done)
		ereport(ERROR,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION), errmsg("could not compute a hash")));
	return hash;
}

/* ASCII letters only, so that the hash does not depend on a locale. */
bytea *
email_hash(const char *email)
{
	if (email == NULL)
		return NULL;
	return keyed_hash("email", str_tolower(email, strlen(email), C_COLLATION_OID));
}

char *
derived_secret(const char *purpose)
{
	uint8 key[CRYPTO_KEY_SIZE];
	char *hex = palloc(CRYPTO_HEX_SIZE(CRYPTO_KEY_SIZE));

	derive("secret", purpose, key);
	crypto_hex_encode(key, sizeof(key), hex);
	crypto_wipe(key, sizeof(key));
	return hex;
}

/* ------------------------------------------------------------------------
 * SQL functions
 * ------------------------------------------------------------------------
 */
SQL_FUNCTION(billing_decrypt)
{
	bytea *sealed = PG_GETARG_BYTEA_PP(0);
	char *column = text_to_cstring(PG_GETARG_TEXT_PP(1));
	pg_uuid_t *id = PG_GETARG_UUID_P(2);
	size_t length = 0;
	char *plain = unseal(column, id, sealed, &length);
	text *result = cstring_to_text_with_len(plain, (int) length);

	crypto_wipe(plain, length);
	PG_RETURN_TEXT_P(result);
}

SQL_FUNCTION(billing_email_hash)
{
	PG_RETURN_BYTEA_P(email_hash(text_to_cstring(PG_GETARG_TEXT_PP(0))));
}

static bool
check_key_file(char **newval, void **extra, GucSource source)
{
	if (**newval == '\0' || (is_absolute_path(*newval) && strlen(*newval) < MAXPGPATH))
		return true;
	GUC_check_errdetail("The path must be absolute and shorter than %d bytes.", MAXPGPATH);
	return false;
}

void
keys_init(void)
{
	DefineCustomStringVariable(
		"janua_billing.key_file",
		"File with the keys that billing encrypts secrets and personal data with.",
		"Empty: a file in the home of the server's user, named after the system identifier.",
		&key_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_key_file, NULL, NULL);
}
