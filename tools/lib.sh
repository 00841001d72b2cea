# What the scripts of tools/ share: where things are, and a private server.
# It is sourced, never run. Nothing in here writes into PostgreSQL's own
# directories, talks to a server that was already there, or needs more rights
# than the caller has.
#
# A private server lives in one directory, $work:
#   $work/usr/...   a copy of the PostgreSQL installation with our extension in
#                   it. PostgreSQL finds its files relative to its programs, so
#                   copying the programs is enough; the rest are symbolic links.
#   $work/data      the cluster        $work/socket    its socket
#   $work/keys      the key file       $work/log       what it had to say
# PostgreSQL refuses to run as root; root therefore runs it as user postgres, or
# nobody, and that user owns $work.

# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

# Nothing of the caller's PostgreSQL or make may lead astray; only PG_CONFIG is
# a choice, and goes on to the scripts that this one calls.
pg_config_choice=${PG_CONFIG:-}
unset CDPATH MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES "${!PG@}"
[ -z "$pg_config_choice" ] || export PG_CONFIG=$pg_config_choice

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0#"$root"/}" "$*" >&2; exit 1; }

# ---------------------------------------------------------------------------
# The PostgreSQL to use: PG_CONFIG, or the newest installed one.

find_postgres() {
	if [ -z "${pg_config_choice:-}" ]; then
		pg_config_choice=$(ls -d /usr/lib/postgresql/*/bin/pg_config 2>/dev/null | sort -V | tail -n 1)
		[ -n "$pg_config_choice" ] || pg_config_choice=$(command -v pg_config || true)
	fi
	[ -n "$pg_config_choice" ] || die "no pg_config here; run tools/setup"
	bindir=$("$pg_config_choice" --bindir) || die "$pg_config_choice does not work; run tools/setup"
	pkglibdir=$("$pg_config_choice" --pkglibdir)
	sharedir=$("$pg_config_choice" --sharedir)
	pgxs_tests=$(dirname "$("$pg_config_choice" --pgxs)")/../test
	pgxs_tests=$(cd "$pgxs_tests" && pwd) || die "the test programs of PostgreSQL are missing; run tools/setup"
}

# Builds the extension in the checkout. Two scripts may run at once: one waits.
build_extension() {
	local lock
	exec {lock}<"$root/Makefile"
	flock "$lock"
	make -s -C "$root" -j "$(nproc)" PG_CONFIG="$pg_config_choice" "$@"
	exec {lock}<&-
}

# ---------------------------------------------------------------------------
# The private directory and who owns it.

# open_work [DIR]: makes $work, DIR or a new temporary directory.
open_work() {
	if [ $# -gt 0 ]; then
		work=$1
		mkdir "$work" || die "$work must not be there yet"
		work=$(cd "$work" && pwd -P)
	else
		work=$(mktemp -d "${TMPDIR:-/tmp}/janua.XXXXXX")
		trap close_work EXIT
		trap 'exit 130' INT
		trap 'exit 143' TERM HUP
	fi
	mkdir "$work/home" "$work/tmp" "$work/keys" "$work/socket" "$work/log"
	server_user=$(id -un)
	if ((EUID == 0)); then
		server_user=postgres
		id "$server_user" >/dev/null 2>&1 || server_user=nobody
		chown -R "$server_user" "$work"
	fi
	chmod 700 "$work"
}

# Stops what runs in $work and removes it; KEEP=1 leaves the files.
close_work() {
	stop_cluster immediate || true
	if [ -n "${KEEP:-}" ]; then
		say "kept: $work"
	else
		rm -rf "$work"
	fi
}

# as_server [NAME=VALUE...] CMD...: runs CMD as the server's user, with nothing
# in its environment that the caller happened to have there.
as_server() {
	local switch=()
	if ((EUID == 0)); then switch=(runuser -u "$server_user" --); fi
	(cd "$work" && exec "${switch[@]}" env -i PATH="$private_bin:/usr/local/bin:/usr/bin:/bin" \
		HOME="$work/home" TMPDIR="$work/tmp" LANG=C.UTF-8 "$@")
}

# Copies the installation to $work and installs the extension there. The copy
# can be found with its own pg_config, which reports paths in $work.
private_install() {
	local dir entry
	private_bin=$work$bindir
	mkdir -p "$private_bin" "$work$pkglibdir" "$work$sharedir/extension"
	cp "$bindir"/* "$private_bin/"
	for dir in "$pkglibdir" "$sharedir" "$sharedir/extension"; do
		for entry in "$dir"/*; do
			case ${entry##*/} in
				janua_billing*) ;;
				extension) [ "$dir" = "$sharedir" ] || ln -s "$entry" "$work$dir/" ;;
				*) ln -s "$entry" "$work$dir/" ;;
			esac
		done
	done
	for dir in $("$pg_config_choice" --includedir) $("$pg_config_choice" --includedir-server) \
		$("$pg_config_choice" --libdir); do
		mkdir -p "$work$(dirname "$dir")"
		[ -e "$work$dir" ] || ln -s "$dir" "$work$dir"
	done
	make -s -C "$root" PG_CONFIG="$private_bin/pg_config" install
	if ((EUID == 0)); then chown -R -h "$server_user" "$work/usr" 2>/dev/null || true; fi
}

# ---------------------------------------------------------------------------
# The cluster.

# create_cluster [SETTING=VALUE...]: a new cluster in $work/data, not started.
# The defaults are for tests: nothing is flushed to disk.
create_cluster() {
	local setting
	as_server "$private_bin/initdb" --no-sync --no-locale --encoding=UTF8 --auth=trust \
		--username=postgres -D "$work/data" >"$work/log/initdb.log" 2>&1 ||
		{ cat "$work/log/initdb.log" >&2; die "initdb failed"; }
	{
		say "listen_addresses = ''"
		say "unix_socket_directories = '$work/socket'"
		say "shared_preload_libraries = 'janua_billing'"
		say "janua_billing.key_file = '$work/keys/janua_billing.key'"
		say "max_worker_processes = 64"
		say "timezone = 'UTC'"
		say "log_line_prefix = '%m [%p] %b %d '"
		say "fsync = off"
		for setting in "$@"; do
			say "${setting%%=*} = '${setting#*=}'"
		done
	} >>"$work/data/postgresql.conf"
}

# start_cluster [SETTING=VALUE...]: starts it, with settings for this run only.
start_cluster() {
	local options='' setting
	for setting in "$@"; do options+=" -c $setting"; done
	as_server "$private_bin/pg_ctl" -D "$work/data" -l "$work/log/server.log" -w -s \
		-o "$options" start || { tail -n 20 "$work/log/server.log" >&2; die "the server did not start"; }
	export PGHOST=$work/socket PGPORT=${cluster_port:-5432} PGUSER=postgres PGDATABASE=postgres
	export PATH=$private_bin:$PATH
}

# stop_cluster MODE: stops the server of $work, found by its own pid file.
stop_cluster() {
	[ -f "$work/data/postmaster.pid" ] || return 0
	as_server "$private_bin/pg_ctl" -D "$work/data" -m "$1" -w -s stop
}

# Lets the extension write the key file of this cluster, and leaves no trace of
# having been there in the database. A server without the key file is still good
# for finding out why there is none.
create_key_file() {
	psql -X -q -v ON_ERROR_STOP=1 -v key_file="$work/keys/janua_billing.key" >/dev/null <<-'SQL' ||
		BEGIN;
		SET client_min_messages = warning;
		CREATE EXTENSION janua_billing;
		SELECT billing.create_key_file(:'key_file');
		ROLLBACK;
	SQL
		say "this server has no key file: CREATE EXTENSION or billing.create_key_file failed" >&2
}

# ---------------------------------------------------------------------------
# Node, for the simulator only: the npm package "node" of the simulator is a
# version that is new enough; Debian's own need not be.

find_node() {
	local candidate
	for candidate in "$root/test/simulator/node_modules/node/bin/node" "$(command -v node || true)"; do
		if [ -x "$candidate" ] && "$candidate" -e 'process.exit(parseInt(process.versions.node) >= 22 ? 0 : 1)'; then
			say "$candidate"
			return
		fi
	done
	return 1
}
