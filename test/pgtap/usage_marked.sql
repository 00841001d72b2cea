-- usage_core.sql once more, the way that usage goes where its tables are distributed:
-- through SPI, with marks. It needs no Citus, and is what a dump of distributed
-- tables comes to on a single server.
\set marked yes
\ir usage_core.sql
