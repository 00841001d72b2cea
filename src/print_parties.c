/*-------------------------------------------------------------------------
 *
 * print_parties.c
 *	  Seller and customer of printed documents.
 *
 * A party is {name, email, address, tax_ids, country, tax_exempt}: as it was
 * copied into the document when it was issued, else as it is now.
 *
 *-------------------------------------------------------------------------
 */
#include "printing.h"

#include "json.h"
#include "keys.h"

QUERY(load_customer,
	  "SELECT name, email, address, tax_ids, country, tax_exempt, organization_id "
	  "FROM billing.customers WHERE id = $1",
	  UUIDOID);

const Jsonb *
print_copy(const char *column, const pg_uuid_t *id, const bytea *sealed)
{
	const char *reason;
	char *text = unseal_text(column, id, sealed);

	return text == NULL ? NULL : json_parse(text, strlen(text), &reason);
}

/* Who has no name has at least the application's. */
Jsonb *
print_customer(const pg_uuid_t *customer_id)
{
	JsonBuilder b;
	char *name;
	bytea *email;
	bytea *address;
	bytea *tax_ids;

	if (READ(load_customer, arg_uuid(customer_id)) == 0)
		elog(ERROR, "no customer %s", uuid_text(customer_id));
	json_open(&b);
	name = unseal_text("customers.name", customer_id, row_bytes(0, 1));
	email = row_bytes(0, 2);
	address = row_bytes(0, 3);
	tax_ids = row_bytes(0, 4);
	json_add_text(&b, "name", name != NULL ? name : row_text(0, 7));
	json_add_text(&b, "email", unseal_text("customers.email", customer_id, email));
	json_add_json(&b, "address", print_copy("customers.address", customer_id, address));
	json_add_json(&b, "tax_ids", print_copy("customers.tax_ids", customer_id, tax_ids));
	json_add_text(&b, "country", row_text(0, 5));
	json_add_text(&b, "tax_exempt", row_text(0, 6));
	return json_close(&b);
}

QUERY(
	load_seller,
	"SELECT jsonb_strip_nulls(jsonb_build_object('name', s.name, 'address', s.address, 'country', s.country, "
	"'tax_ids', s.tax_ids, 'email', s.email, 'footer', s.footer)) FROM billing.sellers AS s "
	"WHERE s.seller = $1 OR ($1 IS NULL AND s.is_default)",
	TEXTOID);

Jsonb *
print_seller(const char *name)
{
	return READ(load_seller, arg_text(name)) == 0 ? NULL : row_json(0, 1);
}
