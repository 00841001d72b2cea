-- quota.sql once more, the way that usage goes where its tables are distributed.
\set marked yes
\ir quota.sql
