/* Weak definition until credits.c has it; goes with engine_weak.c. */
#include "engine.h"
__attribute__((weak)) void
balance_add(const pg_uuid_t *customer_id, const char *currency, int64 amount, const char *reason,
			const char *source_type, const pg_uuid_t *source_id)
{
}
