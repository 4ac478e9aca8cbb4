"""psycopg_case.py CONNINFO: psycopg 3 as an application uses it."""

import re
import sys
import threading

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool

from at_once import CONNECTIONS, digest, run_at_once, wait_until

SLEEP = "select pg_sleep(300)"
RUNNING = "select count(*) from pg_stat_activity where pid = %s and state = 'active' and query = %s"

conninfo = sys.argv[1]


def back_end(pool, meet):
    with pool.connection() as connection:
        meet()
        return connection.execute("select pg_backend_pid()").fetchone()[0]


def cancelled(connection, observer):
    """Cancels a statement by a connection that libpq opens for it, with TLS like the first."""
    seen = []

    def sleep():
        try:
            connection.execute(SLEEP)
        except psycopg.errors.QueryCanceled as error:
            seen.append(str(error))

    thread = threading.Thread(target=sleep)
    thread.start()
    pid = connection.info.backend_pid
    wait_until(lambda: observer.execute(RUNNING, (pid, SLEEP)).fetchone()[0] == 1)
    connection.cancel_safe()
    thread.join()
    connection.rollback()
    return seen[0]


with psycopg.connect(conninfo) as connection, psycopg.connect(conninfo, autocommit=True) as observer:
    print("tls", connection.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone()[0])
    print("bound", connection.execute("select %s::int, %s::text", (42, "grüß Gott")).fetchone())
    lines = connection.execute("select repeat(i::text || ' ', 1000) from generate_series(1, 800) i")
    print("large", digest(line for (line,) in lines))
    print("cancelled", cancelled(connection, observer))
    print("afterwards", connection.execute("select 1").fetchone()[0])

with ConnectionPool(conninfo, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:
    print("pool", len(set(run_at_once(lambda meet: back_end(pool, meet)))))

try:
    psycopg.connect(make_conninfo(conninfo, password="wrong"))
except psycopg.OperationalError as error:
    # psycopg itself tries every address of the name, and tells what became of each.
    print("wrong password", re.search("FATAL: .*", str(error))[0])
