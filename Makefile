# janua_billing: multi-provider billing inside PostgreSQL
#
# This file is the only front door; `make help` lists what it can do. Building
# and installing go through PGXS. The other targets hand over to a script in
# tools/, which first installs what is missing and then calls this file again,
# so that they also work on a machine where pg_config is not there yet.

EXTENSION = janua_billing
MODULE_big = janua_billing
# The version is set in one place, the control file.
EXTVERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" janua_billing.control)

# What CREATE EXTENSION runs: sql/NN_subject.sql in the order of the numbers,
# joined into one file. Update scripts are sql/janua_billing--OLD--NEW.sql.
SQL_PARTS := $(sort $(wildcard sql/[0-9][0-9]_*.sql))
SQL_BUILT = sql/build/$(EXTENSION)--$(EXTVERSION).sql
DATA = $(wildcard sql/$(EXTENSION)--*--*.sql)
DATA_built = $(SQL_BUILT)

OBJS = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c providers/*.c)))
SHLIB_LINK = -lcurl -lcrypto

# The default goal, before anything that PGXS brings in.
all:

SCRIPTED = demo test bench lint fuzz
.PHONY: all help clean clean-local $(SCRIPTED)

help:
	@echo 'make           build the extension (PG_CONFIG=... picks the PostgreSQL, CC=clang works)'
	@echo 'make install   install it there (DESTDIR=... is obeyed)'
	@echo 'make demo      show it at work in a throw-away server'
	@echo 'make test      build it and run every test'
	@echo 'make bench     measure it against plain SQL in a throw-away server'
	@echo 'make lint      check layout, warnings and the rules of the house'
	@echo 'make fuzz      fuzz what reads bytes from outside (FUZZ_SECONDS=60 for each)'
	@echo 'make clean     remove what was built'
	@echo
	@echo 'demo, test, bench, lint and fuzz install missing packages first (tools/setup).'

$(SCRIPTED):
	@tools/$@

clean: clean-local

clean-local:
	rm -rf sql/build test/log
	rm -f src/*.o src/*.d src/*.bc providers/*.o providers/*.d providers/*.bc $(MODULE_big).so
	@for dir in test/unit test/fuzz; do \
		if test -f $$dir/Makefile; then $(MAKE) --no-print-directory -C $$dir clean; fi; \
	done

# PGXS is needed for building only: leave it out when nothing but scripts,
# help or clean is asked for.
ifneq ($(filter-out $(SCRIPTED) help clean,$(or $(MAKECMDGOALS),all)),)

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifeq ($(wildcard $(PGXS)),)
$(error cannot build with "$(PG_CONFIG)": the server development files of PostgreSQL are missing; run tools/setup build, or set PG_CONFIG)
endif

# PGXS names the directory of the server's headers with -I; naming it with
# -isystem as well makes the compiler drop the -I, so that our warnings are
# about our code only. PostgreSQL 15 does not mark what a module exports, later
# ones do; -fvisibility=hidden needs the mark (on the functions too, in 15).
PG_CPPFLAGS = -Isrc -Iproviders -isystem $(shell $(PG_CONFIG) --includedir-server) \
	-D'PGDLLEXPORT=__attribute__((visibility("default")))' \
	-D'JANUA_VERSION="$(EXTVERSION)"'
PG_CFLAGS = -std=gnu11 -Wall -Wextra -Werror -Wno-unused-parameter \
	-Wno-missing-field-initializers -Wno-declaration-after-statement \
	-fvisibility=hidden -MMD -MP

# PostgreSQL remembers flags of the compiler it was built with.
ifneq ($(findstring clang,$(shell $(CC) --version 2>/dev/null)),)
PG_CFLAGS += -Wno-unknown-warning-option -Wno-ignored-optimization-argument
endif

# Bit code for the JIT does nothing for functions like ours and doubles the
# time of a build; `make with_llvm=yes` makes it all the same.
ifneq ($(origin with_llvm),command line)
override with_llvm = no
endif

include $(PGXS)

$(OBJS): Makefile janua_billing.control
-include $(OBJS:.o=.d)

# The directories stand for the parts that are there no longer.
$(MODULE_big)$(DLSUFFIX): $(wildcard src providers)

$(SQL_BUILT): sql $(SQL_PARTS) tools/assemble Makefile janua_billing.control
	tools/assemble $@ $(SQL_PARTS)

endif
