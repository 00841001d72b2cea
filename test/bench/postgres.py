"""
A session of PostgreSQL through libpq, for test/bench/run: no driver to install,
and nothing between the end of a COMMIT and the clock.
"""

import ctypes

libpq = ctypes.CDLL("libpq.so.5")
for name in ("PQconnectdb", "PQexec"):
    getattr(libpq, name).restype = ctypes.c_void_p
for name in ("PQerrorMessage", "PQgetvalue"):
    getattr(libpq, name).restype = ctypes.c_char_p

CONNECTION_OK = 0
COMMAND_OK, TUPLES_OK = 1, 2


class Session:
    """Where to connect stands in PGHOST and so on; only the database is ours."""

    def __init__(self, database):
        self.connection = ctypes.c_void_p(libpq.PQconnectdb(f"dbname={database}".encode()))
        if libpq.PQstatus(self.connection) != CONNECTION_OK:
            raise RuntimeError(libpq.PQerrorMessage(self.connection).decode())
        self.rows("SET client_min_messages = warning")

    def close(self):
        libpq.PQfinish(self.connection)

    def rows(self, sql):
        """Runs SQL; its rows as lists of texts."""
        result = ctypes.c_void_p(libpq.PQexec(self.connection, sql.encode()))
        try:
            if libpq.PQresultStatus(result) not in (COMMAND_OK, TUPLES_OK):
                raise RuntimeError(libpq.PQerrorMessage(self.connection).decode())
            return [
                [libpq.PQgetvalue(result, i, j).decode() for j in range(libpq.PQnfields(result))]
                for i in range(libpq.PQntuples(result))
            ]
        finally:
            libpq.PQclear(result)

    def value(self, sql):
        return self.rows(sql)[0][0]
