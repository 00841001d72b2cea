/*-------------------------------------------------------------------------
 *
 * sandbox_usage.c
 *	  What the sandbox is told of usage.
 *
 * It keeps the value of each hour by the event's name, and the last one told
 * of an hour counts.  Nothing is billed of it.
 *
 *-------------------------------------------------------------------------
 */
#include "sandbox.h"

static const char *const names[] = {"event_name", "at", "quantity", NULL};

static bool
same_hour(const Jsonb *a, const Jsonb *b)
{
	return sandbox_text_is(json_text(a, "event_name"), json_text(b, "event_name")) &&
		   sandbox_text_is(json_text(a, "at"), json_text(b, "at"));
}

void
sandbox_usage_report(Sandbox *sandbox, const Jsonb *arguments, SandboxReply *reply)
{
	SandboxState *state = &sandbox->state;
	JsonBuilder hour;
	Jsonb *told;
	ListCell *cell;

	if (json_text(arguments, "event_name") == NULL || json_text(arguments, "quantity") == NULL ||
		json_unix_time(arguments, "at") == 0)
	{
		sandbox_refuse(reply, 400, "parameter_missing");
		return;
	}
	json_open(&hour);
	json_copy(&hour, arguments, names);
	told = json_close(&hour);
	foreach (cell, state->usage)
	{
		if (same_hour(lfirst(cell), told))
			state->usage = foreach_delete_current(state->usage, cell);
	}
	state->usage = lappend(state->usage, told);
}
