"""pytds_case.py HOST PORT USER PASSWORD DATABASE CA_FILE: python-tds with each encryption that it can ask for."""

import sys

import pytds

from at_once import digest, run_at_once

host, port, user, password, database, ca_file = sys.argv[1:]

ENCRYPTIONS = {
    "on": {"cafile": ca_file},
    "login only": {"cafile": ca_file, "enc_login_only": True},
    "none": {},
}

QUERY_TIMEOUT_SECONDS = 1


def connect(word=password, **encryption):
    return pytds.connect(host, database, user, word, port=int(port), autocommit=False, **encryption)


def one(cursor, sql, values=None):
    cursor.execute(sql, values)
    return cursor.fetchone()


def session_id(meet, encryption):
    with connect(**encryption) as connection:
        meet()
        return one(connection.cursor(), "select @@spid as session_id")[0]


for name, encryption in ENCRYPTIONS.items():
    with connect(**encryption) as connection:
        cursor = connection.cursor()
        encrypted = "select encrypt_option from sys.dm_exec_connections where session_id = @@spid"
        print(name, "encrypted", one(cursor, encrypted)[0])
        print(name, "batch", one(cursor, "select 6 * 7 as answer, greeting from greetings"))
        print(name, "bound", one(cursor, "select %s as n, %s as word", (42, "grüß Gott")))
        cursor.execute("select id, line from lines")
        print(name, "large", digest(line for _, line in cursor.fetchall()))
        print(name, "long", digest(one(cursor, "select long_text from long_texts")))
        try:
            cursor.execute("select 1 / 0")
        except pytds.OperationalError as error:
            print(name, "error", error.args[0])
        connection.commit()
        # An attention, while the server is sending as fast as it is read.
        print(name, "endless", one(cursor, "select value from generate_series(1, 2147483647)"))
        cursor.cancel()
        print(name, "afterwards", one(cursor, "select 6 * 7 as answer, greeting from greetings")[0])
    try:
        connect("wrong", **encryption)
    except pytds.OperationalError as error:
        print(name, "wrong password", error.args[0])

with connect(timeout=QUERY_TIMEOUT_SECONDS) as connection:
    cursor = connection.cursor()
    try:
        cursor.execute("waitfor delay '00:05:00'")
    except TimeoutError:
        # An attention, while nothing has been answered.
        print("timeout", one(cursor, "select 6 * 7 as answer, greeting from greetings")[0])

print("at once", len(set(run_at_once(lambda meet: session_id(meet, ENCRYPTIONS["on"])))))
