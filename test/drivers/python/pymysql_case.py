"""pymysql_case.py HOST PORT USER PASSWORD DATABASE CA_FILE: PyMySQL, certificate and host name verified."""

import sys
import threading

import pymysql

from at_once import digest, run_at_once, wait_until

SLEEP = "select sleep(300)"

host, port, user, password, database, ca_file = sys.argv[1:]


def connect(**changes):
    wanted = {
        "host": host,
        "port": int(port),
        "user": user,
        "password": password,
        "database": database,
        "ssl_ca": ca_file,
        "ssl_verify_cert": True,
        "ssl_verify_identity": True,
    }
    return pymysql.connect(**(wanted | changes))


def one(connection, sql, *values):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchone()


def cancelled(connection, observer):
    seen = []

    def sleep():
        try:
            seen.append(one(connection, SLEEP))
        except pymysql.err.OperationalError as error:
            seen.append(error.args)

    thread = threading.Thread(target=sleep)
    thread.start()
    running = "select count(*) from information_schema.processlist where id = %s and info = %s"
    wait_until(lambda: one(observer, running, connection.thread_id(), SLEEP) == (1,))
    observer.query(f"kill query {connection.thread_id()}")
    thread.join()
    return seen[0]


def thread_id(meet):
    with connect() as connection:
        meet()
        return one(connection, "select connection_id()")


with connect() as connection, connect() as observer:
    print("tls", one(connection, "show status like 'Ssl_version'")[1])
    print("bound", one(connection, "select %s, %s", 42, "grüß Gott"))
    with connection.cursor() as cursor:
        cursor.execute("select repeat(concat(seq, ' '), 1000) from seq_1_to_800")
        print("large", digest(line for (line,) in cursor))
    print("cancelled", cancelled(connection, observer))
    print("afterwards", one(connection, "select 1")[0])

print("at once", len(set(run_at_once(thread_id))))

try:
    connect(password="wrong")
except pymysql.err.OperationalError as error:
    print("wrong password", error.args)
