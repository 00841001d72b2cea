/*-------------------------------------------------------------------------
 *
 * key_file.c
 *	  create_key_file(): a key file with one new key.
 *
 *-------------------------------------------------------------------------
 */
#include "keys.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crypto.h"
#include "errors.h"
#include "miscadmin.h"
#include "storage/fd.h"

#define FILE_TEXT                                                                                   \
	"# Keys of janua_billing: an id and 32 bytes in base64 a line. The last key seals, all open;\n" \
	"# to rotate, add a line at the end. Never remove the first line. Without this file nothing\n"  \
	"# that is encrypted in the database can be read: keep a copy, apart from the backups.\n"

/* The path of the new file: absolute, in a directory that is there and is not part of a backup. */
static void
check_new_path(const char *path)
{
	char directory[MAXPGPATH];
	struct stat status;

	if (!is_absolute_path(path))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("path \"%s\" is not absolute", path)));
	if (strlen(path) >= MAXPGPATH)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("path is longer than %d bytes", MAXPGPATH - 1)));

	strlcpy(directory, path, sizeof(directory));
	get_parent_directory(directory);
	if (stat(directory, &status) != 0)
		ereport(
			ERROR,
			(errcode_for_file_access(), errmsg("could not use directory \"%s\": %m", directory),
			 errhint("Make the directory, writable for the server's user, or pass another path.")));
	if (!outside_data_directory(directory))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("path \"%s\" lies in the data directory", path),
				 errdetail("A base backup would hold the keys together with what they encrypt."),
				 errhint("Pass a path outside the data directory.")));
}

/* One new key, as a file; the caller wipes it. */
static int
compose_file(char *text, size_t size)
{
	uint8 id[KEY_ID_SIZE];
	uint8 key[CRYPTO_KEY_SIZE];
	char id_text[CRYPTO_HEX_SIZE(KEY_ID_SIZE)];
	char key_text[CRYPTO_BASE64_SIZE(CRYPTO_KEY_SIZE)];
	int length;

	if (!crypto_random(id, sizeof(id)) || !crypto_random(key, sizeof(key)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random values")));
	crypto_hex_encode(id, sizeof(id), id_text);
	if (!crypto_base64_encode(key, sizeof(key), key_text))
		elog(ERROR, "could not encode a key");
	length = snprintf(text, size, FILE_TEXT "%s %s\n", id_text, key_text);
	crypto_wipe(key, sizeof(key));
	crypto_wipe(key_text, sizeof(key_text));
	return length;
}

static bool
write_all(int fd, const char *text, int length)
{
	while (length > 0)
	{
		ssize_t written = write(fd, text, (size_t) length);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return false;
		text += written;
		length -= (int) written;
	}
	return true;
}

/* Raises nothing between open() and close(), so that no descriptor is left behind. */
static void
write_new_file(const char *path)
{
	char text[sizeof(FILE_TEXT) + 128];
	int length = compose_file(text, sizeof(text));
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
	int reason = errno;
	bool written;

	if (fd < 0)
	{
		crypto_wipe(text, sizeof(text));
		errno = reason;
		if (reason == EEXIST)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_FILE),
					 errmsg("key file \"%s\" is there already", path),
					 errhint("It is in use as it is. To rotate the key, add a line at its end.")));
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not create key file \"%s\": %m", path)));
	}

	/* Always to disk, whatever the setting fsync says: without its key data is lost. */
	written = write_all(fd, text, length) && fsync(fd) == 0;
	reason = errno;
	crypto_wipe(text, sizeof(text));
	close(fd);
	if (!written)
	{
		unlink(path);
		errno = reason;
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not write key file \"%s\": %m", path)));
	}
}

SQL_FUNCTION(billing_create_key_file)
{
	char used[MAXPGPATH];
	bool has_used = key_file_path(used);
	char *path = ARG_TEXT(0);
	char directory[MAXPGPATH];

	if (!superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied to create the key file"),
						errdetail("Only superusers may write files on the server.")));
	if (path == NULL && !has_used)
		ereport(ERROR,
				(errcode(ERRCODE_JB_KEY), errmsg("there is no default path for the key file"),
				 errdetail("The server's user has no home directory."),
				 errhint("Pass a path, and set janua_billing.key_file to it.")));
	if (path == NULL)
		path = pstrdup(used);

	check_new_path(path);
	canonicalize_path(path);
	write_new_file(path);
	strlcpy(directory, path, sizeof(directory));
	get_parent_directory(directory);
	fsync_fname(directory, true);

	if (!has_used || strcmp(path, used) != 0)
		ereport(NOTICE,
				(errmsg("the server does not use \"%s\" yet", path),
				 errhint("ALTER SYSTEM SET janua_billing.key_file = '%s'; SELECT pg_reload_conf();",
						 path)));
	PG_RETURN_TEXT_P(cstring_to_text(path));
}
